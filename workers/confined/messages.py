"""Messages between a confined process and its parent: their length in 8 bytes, then bytes, mostly JSON."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson

_LENGTH_BYTES: Final = 8
_PIECE_BYTES: Final = 2**20


class Silent(Exception):
    """The other side has said nothing for too long."""


class Line:
    """One end of a connection over which whole messages go both ways.

    Args:
        connection: a connected stream socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: bytes | memoryview, seconds: float | None = None) -> None:
        """Send bytes.

        Args:
            message: the bytes.
            seconds: how long the other side may take to take them; for ever if not given.

        Raises:
            Silent: it has not taken them by then.
            OSError: the other side is gone.
        """
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(len(message).to_bytes(_LENGTH_BYTES, "little"))
            self._socket.sendall(message)
        except TimeoutError:
            raise Silent from None

    def say(self, fact: Any, seconds: float | None = None) -> None:
        """Send JSON; as `send`."""
        self.send(orjson.dumps(fact), seconds)

    def hang_up(self) -> None:
        """Let the other side see that nothing more will be said; what it says is still heard."""
        with suppress(OSError):  # it is gone
            self._socket.shutdown(socket.SHUT_WR)

    def receive(
        self, silent_seconds: float | None = None, on_wait: Callable[[], object] = lambda: None
    ) -> bytes:
        """The next message.

        Args:
            silent_seconds: how long to wait for it; for ever if not given.
            on_wait: called each second meanwhile; may raise to stop.

        Raises:
            EOFError: the other side is gone.
            Silent: nothing has come for too long.
        """
        deadline = None if silent_seconds is None else time.monotonic() + silent_seconds
        self._socket.settimeout(None if deadline is None else 1.0)
        length = int.from_bytes(self._read(_LENGTH_BYTES, deadline, on_wait), "little")
        return self._read(length, deadline, on_wait)

    def close(self) -> None:
        """Let the other side see that this one is gone."""
        self._socket.close()

    def _read(self, length: int, deadline: float | None, on_wait: Callable[[], object]) -> bytes:
        read = bytearray()
        while len(read) < length:
            try:
                piece = self._socket.recv(min(_PIECE_BYTES, length - len(read)))
            except TimeoutError:
                on_wait()
                if deadline is not None and time.monotonic() > deadline:
                    raise Silent from None
                continue
            except ConnectionError:
                raise EOFError from None
            if not piece:
                raise EOFError
            read += piece
        return bytes(read)
