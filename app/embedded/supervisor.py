"""One supervisor for Postgres, Redis, a worker and the API: `memaudit up`."""

import fcntl
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import httpx
from pydantic import SecretStr

from app.embedded.devices import device_variables, worker_devices
from app.embedded.errors import AlreadyRunning, EmbeddedError, ServerFailed
from app.embedded.layout import Layout, lay_out
from app.embedded.owner_key import ensure_owner_key
from app.embedded.postgres_server import PostgresServer
from app.embedded.processes import Child
from app.embedded.programs import (
    API_STOP,
    WORKER_STOP,
    Program,
    api_command,
    local_url,
    service_variables,
    worker_command,
)
from app.embedded.redis_server import RedisServer
from app.private_files import write_private
from app.sealing.keyring import Keyring
from app.sealing.master_keys import ensure_master_key
from app.settings import GPU_QUEUE, Settings
from app.signing.keys import ensure_signing_key
from app.store.conversion import convert_all
from app.store.core.migrate import upgrade

# Holds, while the service runs, the variables that lead the other commands to it.
SERVICE_FILE: Final = "service.env"
_READY_SECONDS: Final = 120.0
_WATCH_SECONDS: Final = 0.2
_LONGEST_DELAY_SECONDS: Final = 30.0
# The worker computes for as long as there is work; whoever asks the API waits for an answer.
_WORKER_NICENESS: Final = 10
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """A service that answers.

    Attributes:
        url: where.
        api_key_path: the file with the owner's key.
        logs: the directory with what its processes say.
    """

    url: str
    api_key_path: Path
    logs: Path


def supervise(settings: Settings, announce: Announce, on_ready: Callable[[Ready], None]) -> None:
    """Run the whole service until a signal ends it, then stop everything in reverse order.

    A Postgres or Redis that the settings name is used; the missing ones are started here.
    Call it in the main thread.

    Args:
        settings: with the data directory, host and port; port 0 takes a free one.
        announce: told each step, and what goes wrong later.
        on_ready: told, once the service answers, where.

    Raises:
        EmbeddedError: if the service cannot be started.
        KeyboardInterrupt: after SIGINT, SIGTERM or SIGHUP, when everything has been stopped.
    """
    with ExitStack() as running:
        running.enter_context(_signals_interrupt())
        layout = lay_out(settings.home)
        running.enter_context(_hold(layout.lock))
        settings = settings.model_copy(update={"port": _free_port(settings.host, settings.port)})
        children: list[Child] = []
        if settings.database_url is None:
            announce("Starting Postgres")
            postgres = running.enter_context(PostgresServer(layout))
            settings = settings.model_copy(update={"database_url": SecretStr(postgres.url)})
            children.append(postgres)
        if settings.master_key is None and settings.key_command is None:
            ensure_master_key(settings.master_keys_directory)
        upgrade(settings.require_database_url())
        convert_all(settings.require_database_url(), Keyring(settings))
        if settings.broker_url is None:
            announce("Starting Redis")
            redis = running.enter_context(RedisServer(layout))
            settings = settings.model_copy(update={"broker_url": SecretStr(redis.url)})
            children.append(redis)
        key_path = ensure_owner_key(settings)
        ensure_signing_key(settings.signing_keys_directory)
        running.enter_context(_service_file(settings))
        announce("Starting the worker and the API")
        worker, api = _programs(settings, layout)
        children += [running.enter_context(worker), running.enter_context(api)]
        url = local_url(settings)
        _wait_until_ready(url, api)
        on_ready(Ready(url, key_path, layout.logs))
        _watch([Watched(child, announce) for child in children])


class Watched:
    """A child that is started again when it ends, later each time that it ends soon after a start."""

    def __init__(self, child: Child, announce: Announce) -> None:
        self._child = child
        self._announce = announce
        self._early_ends = 0
        self._started = time.monotonic()
        self._due: float | None = None

    def look(self) -> None:
        """Start the child again if it has ended and its delay is over."""
        now = time.monotonic()
        if self._child.running:
            return
        if self._due is None:
            lived_long = now - self._started > 2 * _LONGEST_DELAY_SECONDS
            self._early_ends = 0 if lived_long else self._early_ends + 1
            delay = min(2.0**self._early_ends, _LONGEST_DELAY_SECONDS)
            self._due = now + delay
            self._announce(
                f"{self._child.name} ended; starting it again in {delay:.0f} s, see {self._child.log}"
            )
        elif now >= self._due:
            self._due, self._started = None, now
            try:
                self._child.start()
            except EmbeddedError as error:
                self._announce(str(error))


def _watch(watched: list[Watched]) -> None:
    while True:
        for child in watched:
            child.look()
        time.sleep(_WATCH_SECONDS)


def _programs(settings: Settings, layout: Layout) -> tuple[Program, Program]:
    """The worker and the API, not started."""
    environment = os.environ | service_variables(settings)
    groups = worker_devices(settings, GPU_QUEUE)
    worker = Program(
        "worker",
        worker_command(GPU_QUEUE, max(1, len(groups)), settings.log_level),
        logs=layout.logs,
        environment=environment | device_variables(groups),
        directory=layout.home,
        stop_steps=WORKER_STOP,
        niceness=_WORKER_NICENESS,
    )
    api = Program(
        "api",
        api_command(settings.host, settings.port),
        logs=layout.logs,
        environment=environment,
        directory=layout.home,
        stop_steps=API_STOP,
    )
    return worker, api


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let the first stop signal raise KeyboardInterrupt; as stopping is bounded, ignore later ones."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in _STOP_SIGNALS}
    for each in _STOP_SIGNALS:
        if each is not signal.SIGHUP or before[each] is not signal.SIG_IGN:
            signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _hold(lock: Path) -> Iterator[None]:
    """Hold the data directory; the kernel lets go of it when we die.

    Raises:
        AlreadyRunning: if another supervisor holds it.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunning(
                f"memaudit already runs on {lock.parent} (process {file.read().strip() or 'unknown'}); "
                "stop it, or set MEMAUDIT_HOME to another directory"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def _service_file(settings: Settings) -> Iterator[None]:
    """Keep the variables that lead to this service in its home."""
    path = settings.home / SERVICE_FILE
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in service_variables(settings).items()]
    write_private(path, "".join(lines))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for port 0.

    Raises:
        ServerFailed: if it cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ServerFailed(f"cannot listen on {host}:{port}: {error.strerror}; set MEMAUDIT_PORT") from error


def _wait_until_ready(url: str, api: Program) -> None:
    """Poll the API until it is ready to serve.

    Raises:
        ServerFailed: if it ends or is not ready in time.
    """
    deadline = time.monotonic() + _READY_SECONDS
    with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline:
            if not api.running:
                raise ServerFailed(f"the API ended while starting; see {api.log}")
            try:
                if client.get("/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(_WATCH_SECONDS)
    raise ServerFailed(f"the API was not ready in {_READY_SECONDS:.0f} s; see {api.log}")
