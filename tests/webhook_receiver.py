"""A receiver of webhooks: HTTPS on 127.0.0.1, as its owner would write it, which tests let fail."""

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

from app.settings import WebhookNetwork
from tests.servers import free_port
from tests.tls_servers import Authority

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Received:
    """A request: what it said, which name the client asked TLS for, and when it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    server_name: str | None
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The message, as the reference library reads it.

        Raises:
            standardwebhooks.WebhookVerificationError: nobody signed this who knows the secret.
        """
        return dict(Webhook(secret).verify(self.body, dict(self.headers)))


@dataclass(frozen=True)
class Reply:
    """What is answered: a status, after a while, with a body that may never end."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0
    endless: bool = False
    byte_a_time: bool = False


class Receiver:
    """Listens while it is started; `answer` decides on each request.

    Args:
        authority: who vouches for it, and its certificate.
    """

    def __init__(self, authority: Authority) -> None:
        self.port = free_port()
        self.url = f"https://{HOST}:{self.port}/hook"
        self.authority = authority
        self.network = WebhookNetwork.read(f"{HOST}/32:{self.port}")
        self.received: list[Received] = []
        self.connections = 0
        self.answer: Callable[[Received], Reply] = lambda _: Reply()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What lets a service send to it."""
        return {
            "MEMAUDIT_WEBHOOK_NETWORKS": f"{HOST}/32:{self.port}",
            "MEMAUDIT_WEBHOOK_CA_FILE": str(self.authority.certificate),
        }

    def start(self) -> None:
        """Listen, unless it does."""
        if self._server is not None:
            return
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be away: connections are refused. What is being answered goes on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def ids(self) -> list[str]:
        return [each.id for each in list(self.received)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._context = receiver.authority.context()
        self._context.sni_callback = _remember_name
        super().__init__((HOST, receiver.port), _Handler)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.receiver.connections += 1
        connection.settimeout(10)
        # The handshake comes with the first byte that is read, in a thread of its own.
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_: object) -> None:
        """Clients that go away in the middle are part of the tests."""


def _remember_name(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
    connection.asked_for = name


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        request = Received(
            path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers["Content-Length"])),
            server_name=getattr(self.connection, "asked_for", None),
            at=time.monotonic(),
        )
        receiver.received.append(request)
        reply = receiver.answer(request)
        time.sleep(reply.after)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        while reply.endless:
            self.wfile.write(b"x" * (1 if reply.byte_a_time else 4096))
            time.sleep(0.05 if reply.byte_a_time else 0)

    def log_message(self, *_: object) -> None:
        """Nothing."""
