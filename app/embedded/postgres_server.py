"""Postgres as our own child."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from app.embedded.binaries import postgres_binaries
from app.embedded.errors import HomeUnusable, ServerFailed
from app.embedded.processes import end, kill_group, spawn
from app.embedded.servers import POLL_SECONDS, SERVER_ENVIRONMENT, START_SECONDS, Server

_USER: Final = "memaudit"
_DATABASE: Final = "memaudit"
_MAINTENANCE_DATABASE: Final = "postgres"
# The port names the socket file even where nothing listens on TCP.
_SOCKET_PORT: Final = 5432

# For one machine that is shared with a worker. Nothing submitted may reach the log: statements,
# parameters and errors (which quote values) are left out, and only the server's own news is kept.
_SETTINGS: Final = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer(Server):
    """A Postgres whose data directory is made on the first start and used again by later ones."""

    kind = "postgres"

    @property
    def url(self) -> str:
        """The URL of the service's own database."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of a database of this server: over TCP when it listens there, else over the socket."""
        if self.port is not None and self.password is not None:
            return f"postgresql://{_USER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"
        return self._socket_url(database)

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerFailed: if it ends or does not answer within a minute; names its log file.
            HomeUnusable: if another server runs on the data directory.
        """
        binaries = postgres_binaries(self.layout.account)
        if not self._data.exists():
            self._initialize(binaries)
        self._wait_for_former_server()
        settings = _SETTINGS | {
            "unix_socket_directories": f'"{self.layout.sockets}"',
            "unix_socket_permissions": "0700",
            "listen_addresses": "" if self.port is None else "127.0.0.1",
            "port": str(self.port or _SOCKET_PORT),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.process = self._spawn([binaries / "postgres", "-D", self._data, *options])
        self.wait_until_ready()
        self._prepare()

    def stop(self) -> None:
        """Break off the sessions, write a checkpoint and end; after 20 s without the checkpoint."""
        if self.process is not None:
            end(self.process, (signal.SIGINT, 20.0), (signal.SIGQUIT, 8.0))

    def kill(self) -> None:
        """SIGKILL to the postmaster and every backend at once, as when the machine dies."""
        if not self.running:
            return
        postmaster = psutil.Process(self.pid)
        postmaster.suspend()
        backends = postmaster.children(recursive=True)
        for process in [*backends, postmaster]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(backends, timeout=10)
        assert self.process is not None
        self.process.wait()

    def answers(self) -> bool:
        """Whether a session can be opened right now."""
        try:
            psycopg.connect(self._socket_url(_MAINTENANCE_DATABASE), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.layout.postgres / "data"

    def _socket_url(self, database: str) -> str:
        host = quote(os.fspath(self.layout.sockets), safe="")
        return f"postgresql://{_USER}@/{database}?host={host}&port={self.port or _SOCKET_PORT}"

    def _spawn(self, command: list[str | Path]) -> subprocess.Popen[bytes]:
        # SIGQUIT ends a postmaster whose parent died within seconds, whatever its backends do;
        # after SIGKILL a busy backend would run on.
        return spawn(
            command,
            log=self.log,
            environment=SERVER_ENVIRONMENT,
            death_signal=signal.SIGQUIT,
            account=self.layout.account,
            directory=self.layout.postgres,
        )

    def _initialize(self, binaries: Path) -> None:
        """Make the data directory, whole or not at all. Its socket is private, so it needs no password.

        Raises:
            ServerFailed: if initdb fails.
        """
        unfinished = self.layout.postgres / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        locale = ["--encoding=UTF8", "--no-locale"]
        access = ["--username", _USER, "--auth-local=trust", "--auth-host=scram-sha-256"]
        process = self._spawn(
            [binaries / "initdb", "--pgdata", unfinished, *locale, *access, "--no-instructions"]
        )
        try:
            status = process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"initdb took longer than {START_SECONDS:.0f} s; see {self.log}") from None
        finally:
            kill_group(process)
            process.wait()
        if status != 0:
            raise ServerFailed(f"initdb failed with status {status}; see {self.log}")
        unfinished.rename(self._data)

    def _prepare(self) -> None:
        """Make the service's database on the first start, and set the password of TCP clients."""
        with psycopg.connect(self._socket_url(_MAINTENANCE_DATABASE), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE])
            if found.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
            if self.password is not None:
                user, password = sql.Identifier(_USER), sql.Literal(self.password)
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, password))

    def _wait_for_former_server(self) -> None:
        """Let the processes of an earlier server on this directory end, and drop the pid file they left.

        Postgres takes any process that reuses the recorded pid for a running server, so the file
        is removed once no Postgres works in the directory.

        Raises:
            HomeUnusable: if one still works there after half a minute.
        """
        deadline = time.monotonic() + START_SECONDS / 2
        while any(self._works_here(process) for process in psutil.process_iter(["name"])):
            if time.monotonic() > deadline:
                raise HomeUnusable(f"another Postgres runs on {self._data}; stop it first")
            time.sleep(POLL_SECONDS)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _works_here(self, process: psutil.Process) -> bool:
        """Whether the process is a Postgres of this data directory; each of them works in it."""
        try:
            return process.name() == "postgres" and Path(process.cwd()) == self._data.resolve()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
