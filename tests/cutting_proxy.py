"""A proxy on loopback that cuts connections in the middle of an answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_BLOCK_BYTES = 65_536


@dataclass
class CuttingProxy:
    """Passes bytes on. Each connection is cut after the next number of answered bytes, until none is left.

    With 0 the service answers, and nothing of it is passed on.
    """

    target: tuple[str, int]
    cuts: list[int]
    passed: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server, suppress(OSError):
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            answered = 0
            while block := server.recv(_BLOCK_BYTES):
                if self.cuts and self.cuts[0] == 0:
                    self.cuts.pop(0)
                    break
                client.sendall(block)
                answered += len(block)
                self.passed += len(block)
                if self.cuts and answered >= self.cuts[0]:
                    self.cuts.pop(0)
                    break
            # Closing alone would wait for the thread that reads from it.
            client.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while block := client.recv(_BLOCK_BYTES):
                server.sendall(block)
            server.shutdown(socket.SHUT_WR)


@contextmanager
def cutting_proxy(url: str, *cuts: int) -> Iterator[CuttingProxy]:
    """Run a proxy to a service."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = CuttingProxy((parts.hostname, parts.port), list(cuts))
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    yield proxy
    proxy.listener.shutdown(socket.SHUT_RDWR)
    proxy.listener.close()
    thread.join()
