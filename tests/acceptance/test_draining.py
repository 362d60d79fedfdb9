"""An API process that is asked to end answers what is open, and its clients go on at another one."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from app.embedded.programs import API_STOP, api_command
from tests.deployments import Deploy
from tests.live_service import LiveService, fresh_key, until
from tests.servers import free_port

LONG = 60.0
# Less than what the server gives open requests before it cuts them off.
SOON = 4.0


def test_an_api_that_is_replaced_loses_nothing_and_keeps_nobody_waiting(deploy: Deploy) -> None:
    deployment = deploy()
    service = deployment.service
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        service._program("other", api_command("127.0.0.1", port), API_STOP),
        ThreadPoolExecutor(2) as threads,
    ):
        body = {
            "model": service.register({"type": "hub", "repo": "acme/never-validated"}),
            "text_set": service.upload([{"text": "one text"}]),
        }
        audit = service.audit(**body)
        until(lambda: is_ready(url), "the other process serves")
        open_streams = threading.Barrier(3)
        polled = threads.submit(poll, service, audit, open_streams)
        followed = threads.submit(follow, service, audit, open_streams)
        with requesting_audits(service, [service.url, url], body) as accepted:
            until(lambda: len(accepted) > 3, "audits are accepted")
            open_streams.wait(LONG)
            time.sleep(1)  # the poll is under way too
            seconds = stop(service)
            before = len(accepted)
            until(lambda: len(accepted) > before + 3, "audits are accepted elsewhere")
        assert seconds < SOON, f"{seconds:.1f} s, as if somebody was waited for"
        answer = polled.result()
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
        assert answer.headers["retry-after"] == "1"
        assert "event: queued" in followed.result()
    # None was lost, and repeating one that was cut off has made no second one.
    stored = {f"aud_{each.hex}" for (each,) in deployment.rows("SELECT id FROM audits")}
    assert stored == {audit, *accepted}


def stop(service: LiveService) -> float:
    """Ask the API to end; the seconds that it took."""
    process = service.api.process
    assert process is not None
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in {0, -signal.SIGTERM}  # as the server hands the signal on at the end
    return time.monotonic() - began


def poll(service: LiveService, audit: str, is_open: threading.Barrier) -> httpx.Response:
    with service.client_for(service.key) as client:
        client.get("/healthz")
        is_open.wait(LONG)
        return client.get(f"/v1/audits/{audit}", params={"wait": LONG})


def follow(service: LiveService, audit: str, is_open: threading.Barrier) -> list[str]:
    """The lines of a stream that ends as it should: one that is cut off raises."""
    with (
        service.client_for(service.key) as client,
        client.stream("GET", f"/v1/audits/{audit}/events") as stream,
    ):
        is_open.wait(LONG)
        return list(stream.iter_lines())


@contextmanager
def requesting_audits(service: LiveService, urls: list[str], body: dict[str, str]) -> Iterator[list[str]]:
    """Request audits meanwhile, one after the other, each again at the next process when one is gone."""
    accepted: list[str] = []
    refused: list[str] = []
    ended = threading.Event()

    def request_one(client: httpx.Client, key: dict[str, str]) -> None:
        while True:
            try:
                answer = client.post(f"{urls[0]}/v1/audits", json=body, headers=key)
            except httpx.TransportError:
                urls.reverse()
                time.sleep(0.02)
                continue
            (accepted if answer.status_code == 202 else refused).append(answer.json().get("id", answer.text))
            return

    def request_all() -> None:
        with service.client_for(service.key) as client:
            while not ended.is_set() and not refused:
                request_one(client, fresh_key())
                time.sleep(0.02)

    thread = threading.Thread(target=request_all, daemon=True)
    thread.start()
    try:
        yield accepted
    finally:
        ended.set()
        thread.join(LONG)
    assert not refused


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
