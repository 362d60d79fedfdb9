"""The API and the worker as commands and as our own children."""

import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from app.embedded.processes import Child, end, kill_session, spawn
from app.settings import SERVED_BY, Queue, Settings

_REQUESTS_END_SECONDS: Final = 5
Steps = Sequence[tuple[signal.Signals, float]]

# Open requests are finished or broken off after a few seconds.
API_STOP: Final[Steps] = ((signal.SIGTERM, _REQUESTS_END_SECONDS + 5.0),)
# Celery's warm shutdown, in which the job at hand is handed back, then its cold one. A job that is
# cut off all the same is taken back when its lease runs out.
WORKER_STOP: Final[Steps] = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 5.0))


def api_command(host: str, port: int) -> list[str]:
    """The command that runs one API process."""
    return [
        *(sys.executable, "-m", "app.serving", "--host", host, "--port", str(port)),
        *("--drain-seconds", str(_REQUESTS_END_SECONDS)),
    ]


def worker_command(queue: Queue, concurrency: int, log_level: str) -> list[str]:
    """The command that runs one worker with `concurrency` processes, each with its own models in memory.

    Leases, not Celery's events between workers, say who is alive, so these are left out.
    """
    return [
        *(sys.executable, "-m", "celery", "--app", "workers.celery_app", "worker"),
        *("--queues", ",".join(SERVED_BY[queue]), "--concurrency", str(concurrency), "--pool", "prefork"),
        *("--hostname", f"{queue}-{uuid.uuid4().hex[:12]}@%h", "--loglevel", log_level),
        *("--without-gossip", "--without-mingle"),
    ]


class Program(Child):
    """The API or a worker as our child.

    Args:
        name: what it is called in messages and its log file.
        command: program and arguments.
        logs: the directory of its log file.
        environment: its whole environment.
        directory: where it runs; holds nothing that Python could import by mistake.
        stop_steps: the signals that end it, each with the seconds it is given.
        niceness: how far it stands back where processors are short, as of `spawn`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        logs: Path,
        environment: Mapping[str, str],
        directory: Path,
        stop_steps: Steps,
        niceness: int = 0,
    ) -> None:
        super().__init__(name, logs)
        self._command = command
        self._environment = environment
        self._directory = directory
        self._stop_steps = stop_steps
        self._niceness = niceness

    def start(self) -> None:
        """Start the program; it may take seconds until it is ready."""
        self.process = spawn(
            self._command,
            log=self.log,
            environment=self._environment,
            death_signal=signal.SIGKILL,
            directory=self._directory,
            niceness=self._niceness,
        )

    def stop(self) -> None:
        """End the program by its steps, then whatever is left of its session."""
        if self.process is not None:
            end(self.process, *self._stop_steps)
            kill_session(self.process)


def service_variables(settings: Settings) -> dict[str, str]:
    """The environment variables that lead a process to this service, wherever it is started."""
    return {
        "MEMAUDIT_HOME": os.fspath(settings.home),
        "MEMAUDIT_HOST": settings.host,
        "MEMAUDIT_PORT": str(settings.port),
        "MEMAUDIT_DATABASE_URL": settings.require_database_url(),
        "MEMAUDIT_BROKER_URL": settings.require_broker_url(),
        "MEMAUDIT_MODEL_ROOTS": ":".join(map(os.fspath, settings.model_roots)),
        "MEMAUDIT_SIGNING_KEYS": os.fspath(settings.signing_keys_directory),
        "MEMAUDIT_MASTER_KEYS": os.fspath(settings.master_keys_directory),
    }


def local_url(settings: Settings) -> str:
    """Where the API of these settings is reached from this machine."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read here, not listened on
    host = everywhere.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
