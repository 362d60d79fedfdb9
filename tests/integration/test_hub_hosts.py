"""Workers ask the hub that they were told of, and nobody that it sends them to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from httpx2 import Request
from huggingface_hub import constants

from app.contracts.sources import HubSource
from app.errors import LanguageModelRejected
from app.settings import Settings
from workers.hub import HubElsewhere, _refuse_elsewhere, pin_hub
from workers.models.checkpoints import locate

SOURCE = HubSource(type="hub", repo="acme/tiny")


class Server(ThreadingHTTPServer):
    """Sends whoever asks to another place, or says that there is nothing."""

    elsewhere: str | None = None
    asked = 0


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # the client asks in no other way
        self.server.asked += 1
        self.send_response(404 if self.server.elsewhere is None else 302)
        if self.server.elsewhere is not None:
            self.send_header("Location", self.server.elsewhere + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, any_hub: None) -> Iterator[Server]:
    with server() as running:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", constants.HF_HUB_DISABLE_XET)
        yield running


def test_a_hub_that_leads_elsewhere_is_not_followed(hub: Server) -> None:
    with server() as inside:
        hub.elsewhere = f"http://127.0.0.1:{inside.server_port}"
        pin_hub()
        with pytest.raises(LanguageModelRejected, match="MEMAUDIT_HUB_HOSTS"):
            locate(SOURCE, None, Settings())
        assert hub.asked
        assert not inside.asked
        hub.elsewhere = f"http://localhost:{inside.server_port}"
        pin_hub.cache_clear()
        pin_hub("localhost")
        with pytest.raises(LanguageModelRejected, match="HTTP 404"):
            locate(SOURCE, None, Settings())
        assert inside.asked


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://huggingface.co/api/models/a", True),
        ("https://cas-bridge.xethub.hf.co/file", True),
        ("https://cdn-lfs.huggingface.co/file", True),
        ("https://huggingface.co:8443/", False),
        ("http://cdn-lfs.huggingface.co/file", False),
        ("https://hf.co.example.com/", False),
        ("https://evilhf.co/", False),
        ("http://169.254.169.254/latest", False),
        ("https://mirror.example.com/", True),
    ],
)
def test_hugging_face_may_send_to_its_own_hosts(
    monkeypatch: pytest.MonkeyPatch, url: str, taken: bool
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    check = _refuse_elsewhere(("mirror.example.com",))
    if taken:
        check(Request("GET", url))
    else:
        with pytest.raises(HubElsewhere):
            check(Request("GET", url))
