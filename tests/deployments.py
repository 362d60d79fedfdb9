"""Whole deployments for tests: a Postgres, a Redis and the service on them, all of which a test may kill."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import psycopg

from app.embedded.postgres_server import PostgresServer
from app.embedded.programs import Program
from app.embedded.redis_server import RedisServer
from app.store.core.migrate import upgrade
from tests.live_service import PATIENCE, LiveService, job_process, until
from tests.servers import temporary_layout

SHARD_TOKENS = 2048


@dataclass(frozen=True)
class Deployment:
    """A Postgres, a Redis and the service on them."""

    postgres: PostgresServer
    redis: RedisServer
    service: LiveService

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a statement gives, in a transaction of its own."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def wait_for_jobs(self, kind: str, state: str, count: int = 1) -> None:
        """Wait until so many jobs of a kind are in a state."""
        query = f"SELECT count(*) FROM jobs WHERE kind = '{kind}' AND state = '{state}'"
        until(lambda: self.rows(query)[0][0] >= count, f"{count} {kind} {state}")

    def suspend_within(self, worker: Program, kind: str) -> psutil.Process:
        """Stop the worker's job process while it computes a job, in no transaction of its own."""
        computing = f"""
            SELECT 1 FROM jobs WHERE kind = '{kind}' AND state = 'running'
            AND NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction')
            FOR UPDATE SKIP LOCKED
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.wait_for_jobs(kind, "running")
            child = job_process(worker)
            child.suspend()
            time.sleep(0.05)  # what it has asked of the database is answered
            if self.rows(computing):
                return child
            child.resume()
        raise AssertionError(f"the worker was never seen within a {kind}")

    @contextmanager
    def postgres_killed(self) -> Iterator[None]:
        """Kill Postgres, and start it again."""
        self.postgres.kill()
        yield
        self.postgres.start()

    @contextmanager
    def redis_lost(self) -> Iterator[None]:
        """Take Redis away; it comes back empty."""
        self.redis.stop()
        yield
        self.redis.start()
        with self.redis.client() as client:
            client.flushall()

    def triple_bells(self) -> None:
        """Let every bell that waits be delivered three times; whoever rings adds none while one waits."""
        with self.redis.client() as client:
            until(lambda: client.llen("gpu") >= 1, "a bell waits")
            for bell in client.lrange("gpu", 0, -1):
                client.rpush("gpu", bell, bell)

    @contextmanager
    def held_up_at(self, table: str) -> Iterator[None]:
        """Let nobody write to a table, and wait until somebody wants to."""
        waiting = f"SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
        with psycopg.connect(self.postgres.url) as connection:
            connection.execute(f"LOCK TABLE {table} IN SHARE MODE")
            until(lambda: bool(self.rows(waiting)), f"somebody writes to {table}")
            yield


class Deploy(Protocol):
    """Starts a deployment; the options are those of `LiveService`."""

    def __call__(self, **options: Any) -> Deployment: ...


@contextmanager
def deployments(model_roots: list[Path]) -> Iterator[Deploy]:
    """Start servers and an API as often as asked, and end all at last. Workers are started by the test."""
    with ExitStack() as running:

        def start(**options: Any) -> Deployment:
            postgres = running.enter_context(PostgresServer(running.enter_context(temporary_layout())))
            redis = running.enter_context(RedisServer(running.enter_context(temporary_layout())))
            upgrade(postgres.url)
            directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
            service = LiveService(
                directory,
                database_url=postgres.url,
                broker_url=redis.url,
                model_roots=model_roots,
                **{"lease_seconds": 2.0, "shard_tokens": SHARD_TOKENS, **options},
            )
            return Deployment(postgres, redis, running.enter_context(service))

        yield start
