"""What Postgres and Redis have in common as our own children."""

import os
import time
from abc import abstractmethod
from typing import ClassVar, Final

from app.embedded.errors import ServerFailed
from app.embedded.layout import Layout
from app.embedded.processes import Child, end

START_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
# Servers see nothing of our environment, which may hold credentials.
SERVER_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}


class Server(Child):
    """A server on a private Unix socket or, when `port` is given, on 127.0.0.1 with a password.

    Started again, it answers at the same URL.

    Args:
        layout: its directories.
        port: TCP port; None for the Unix socket only.
        password: what TCP clients must give; needed with `port`.
    """

    kind: ClassVar[str]

    def __init__(self, layout: Layout, *, port: int | None = None, password: str | None = None) -> None:
        if (port is None) != (password is None):
            raise ValueError("port and password go together")
        super().__init__(self.kind, layout.logs)
        self.layout = layout
        self.port = port
        self.password = password

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the service's own data are, in the form that the settings take."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to all its processes. Does nothing when it was not started."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is answered right now."""

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
