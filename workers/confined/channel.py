"""What a program in a confined process is given to talk to its parent."""

import signal
import socket
from typing import Any

import orjson

from workers.confined.messages import Line
from workers.confined.process import Limits


class Channel(Line):
    """The confined end of a line, and the processor time until the next message.

    Args:
        connection: to the parent.
        limits: of the process.
    """

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        super().__init__(connection)
        self._limits = limits

    def allow(self, cpu_seconds: float | None = None) -> None:
        """Begin to count processor time anew; when it is over, the process ends by SIGPROF."""
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds or self._limits.cpu_seconds)

    def asked(self) -> Any:
        """Wait for the next question.

        Raises:
            EOFError: nobody will ask any more.
        """
        return orjson.loads(self.receive())
