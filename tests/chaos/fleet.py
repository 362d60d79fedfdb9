"""The service under test: a Postgres, a Redis, two API processes and three workers, all ours to kill."""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import psycopg

from app.embedded.postgres_server import PostgresServer
from app.embedded.programs import API_STOP, WORKER_STOP, Program, api_command, worker_command
from app.embedded.redis_server import RedisServer
from app.sealing.master_keys import ensure_master_key
from app.settings import CPU_QUEUE, GPU_QUEUE, Queue
from app.signing.keys import ensure_signing_key
from app.store.core.migrate import upgrade
from tests.chaos.disk import ArtifactDisk, artifact_disk
from tests.chaos.receiving import Hook
from tests.chaos.record import Record
from tests.live_service import PATIENCE, SCOPES, make_key
from tests.servers import free_port, temporary_layout
from tests.skewed_clock import build_skewed_clock, skewed

LEASE_SECONDS: Final = 4.0
REVIVED_AFTER_SECONDS: Final = 10.0
APIS: Final = 2
WORKERS: Final[tuple[Queue, ...]] = (GPU_QUEUE, GPU_QUEUE, CPU_QUEUE)


@dataclass
class Fleet:
    """All processes of a service. Start and end them from the main thread: the kernel ends them with it."""

    home: Path
    postgres: PostgresServer
    redis: RedisServer
    disk: ArtifactDisk
    clock: Path | None
    environment: Mapping[str, str]
    urls: Sequence[str]
    apis: list[Program]
    workers: list[Program]
    key: str = ""
    hook: Hook | None = None
    ended_at: dict[str, float] = field(default_factory=dict)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement gives, in a transaction of its own.

        Raises:
            psycopg.OperationalError: the database is away.
        """
        with psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=5) as connection:
            connection.execute("SET statement_timeout = '20s'")
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def start_worker(self, place: int, *, skew_seconds: int = 0) -> None:
        """Start a worker again, its clock shifted if asked."""
        more = {}
        if skew_seconds and self.clock is not None:
            more = skewed(self.clock, skew_seconds)
        self.workers[place] = _worker(self.home, place, {**self.environment, **more})
        self.workers[place].start()

    def revive(self, record: Record) -> None:
        """Start what has ended by itself, as whoever supervises a service does.

        Celery gives up, for one, when its first process is killed while it starts. What a fault has ended is
        started again with that fault, before this long.
        """
        now = time.monotonic()
        for program in (*self.apis, *self.workers):
            if program.running:
                self.ended_at.pop(program.name, None)
            elif now - self.ended_at.setdefault(program.name, now) > REVIVED_AFTER_SECONDS:
                record.count("processes that ended by themselves, and were started again")
                program.start()

    def children(self, worker: Program) -> list[psutil.Process]:
        """The processes that run a worker's jobs."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(worker.pid).children()
        return []

    def busy_children(self) -> list[psutil.Process]:
        """Those of them that hold a lease now."""
        here = f"{socket.gethostname()}:"
        names = {name for (name,) in self.rows("SELECT worker FROM jobs WHERE state = 'running'")}
        children = [child for worker in self.workers if worker.running for child in self.children(worker)]
        return [child for child in children if f"{here}{child.pid}" in names]

    def wait_until_ready(self) -> None:
        """Wait until every API process serves."""
        deadline = time.monotonic() + PATIENCE
        for url, api in zip(self.urls, self.apis, strict=True):
            while True:
                with suppress(httpx.TransportError):
                    if httpx.get(f"{url}/readyz").status_code == 200:
                        break
                assert time.monotonic() < deadline, api.log.read_text()[-2000:]
                time.sleep(0.1)

    def logs(self) -> Iterator[tuple[str, str]]:
        """What each process has said."""
        servers = (self.postgres.log, self.redis.log, self.home / "rotations.log")
        for path in {*servers, *(program.log for program in (*self.apis, *self.workers))}:
            if path.exists():
                yield path.name, path.read_text(errors="replace")


@contextmanager
def running_fleet(home: Path, model_roots: Sequence[Path], hook: Hook | None = None) -> Iterator[Fleet]:
    """Start a whole service, and end all of it; `hook` is where it may send webhooks."""
    with ExitStack() as running:
        postgres = running.enter_context(PostgresServer(running.enter_context(temporary_layout())))
        redis = running.enter_context(RedisServer(running.enter_context(temporary_layout())))
        disk = running.enter_context(artifact_disk(home / "disk"))
        upgrade(postgres.url)
        ensure_signing_key(home / "signing-keys")
        ensure_master_key(home / "master-keys")
        ports = [free_port() for _ in range(APIS)]
        # The keys are those of the directory, so that they can be rotated.
        inherited = {name: value for name, value in os.environ.items() if name != "MEMAUDIT_MASTER_KEY"}
        environment = (
            inherited
            | ({} if hook is None else hook.receiver.environment)
            | {
                "MEMAUDIT_HOME": os.fspath(home),
                "MEMAUDIT_DATABASE_URL": postgres.url,
                "MEMAUDIT_BROKER_URL": redis.url,
                "MEMAUDIT_MODEL_ROOTS": ":".join(map(os.fspath, model_roots)),
                "MEMAUDIT_ARTIFACT_STORE": disk.url,
                "MEMAUDIT_LEASE_SECONDS": str(LEASE_SECONDS),
                "MEMAUDIT_RETRY_SECONDS": "0.5",
                "MEMAUDIT_TURN_SECONDS": "5",
                "MEMAUDIT_SHARD_TOKENS": "2048",
                "MEMAUDIT_WEBHOOK_TIMEOUT_SECONDS": "2",
                "MEMAUDIT_WEBHOOK_RETRY_SECONDS": "0.2",
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
            }
        )
        fleet = Fleet(
            home=home,
            postgres=postgres,
            redis=redis,
            disk=disk,
            clock=build_skewed_clock(home),
            environment=environment,
            urls=[f"http://127.0.0.1:{port}" for port in ports],
            apis=[_api(home, place, port, environment) for place, port in enumerate(ports)],
            workers=[_worker(home, place, environment) for place in range(len(WORKERS))],
            hook=hook,
        )
        running.callback(_stop_all, fleet)
        for program in (*fleet.apis, *fleet.workers):
            program.start()
        fleet.key = make_key(postgres.url, scopes=SCOPES)
        fleet.wait_until_ready()
        yield fleet


def _stop_all(fleet: Fleet) -> None:
    for program in (*fleet.workers, *fleet.apis):
        program.stop()


def _api(home: Path, place: int, port: int, environment: Mapping[str, str]) -> Program:
    return _program(home, f"api-{place}", api_command("127.0.0.1", port), environment, API_STOP)


def _worker(home: Path, place: int, environment: Mapping[str, str]) -> Program:
    command = worker_command(WORKERS[place], 1, "warning")
    return _program(home, f"worker-{place}", command, environment, WORKER_STOP)


def _program(
    home: Path, name: str, command: Sequence[str], environment: Mapping[str, str], stop_steps: Any
) -> Program:
    return Program(name, command, logs=home, environment=environment, directory=home, stop_steps=stop_steps)
