"""A server that runs in the foreground as our own child, and is gone when we are."""

import os
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from app.embedded.errors import ServerFailed
from app.embedded.layout import Layout
from app.embedded.processes import end

if TYPE_CHECKING:
    import subprocess

START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
# Servers see nothing of our environment, which may hold credentials.
SERVER_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}


class Server(ABC):
    """A server on a private Unix socket or, when `port` is given, on 127.0.0.1 with a password.

    A context manager: entering starts it, leaving stops it. A stopped or killed server can be
    started again and answers at the same URL. Start it from a thread that lives as long as the
    server should, normally the main one: the kernel ends it together with that thread.

    Args:
        layout: its directories.
        port: TCP port; None for the Unix socket only.
        password: what TCP clients must give; needed with `port`.
    """

    name: str

    def __init__(self, layout: Layout, *, port: int | None = None, password: str | None = None) -> None:
        if (port is None) != (password is None):
            raise ValueError("port and password go together")
        self.layout = layout
        self.port = port
        self.password = password
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the service's own data are, in the form that the settings take."""

    @property
    def pid(self) -> int:
        """The process id of the started server."""
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """The file that the server's own messages go to."""
        return self.layout.logs / f"{self.name}.log"

    @abstractmethod
    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedError: if it cannot run, ends, or does not answer within a minute.
        """

    @abstractmethod
    def stop(self) -> None:
        """End the server cleanly, within bounded time. Does nothing when it was not started."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to all its processes. Does nothing when it was not started."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is answered right now."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Poll the starting server; it is ended if it does not answer in time.

        Raises:
            ServerFailed: if it ended or did not answer.
        """
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if not self.running:
                status = self.process.returncode
                raise ServerFailed(f"{self.name} ended with status {status} while starting; see {self.log}")
            if time.monotonic() > deadline:
                end(self.process)
                raise ServerFailed(f"{self.name} did not answer in {START_SECONDS:.0f} s; see {self.log}")
            time.sleep(POLL_SECONDS)
