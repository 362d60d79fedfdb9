"""A large body is read where it holds up nobody, whoever sent it."""

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import CapacityLimiter
from starlette.types import Message

from app.http import json_body
from app.http.json_body import StrictJSONRequest

SMALL, LARGE = b'{"a": 1}', json.dumps(["x" * 1000] * 100).encode()
TWICE = b"[" + b",".join([b'{"a": 1, "a": 2}'] * 10_000) + b"]"


def request_of(body: bytes, app: object) -> StrictJSONRequest:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return StrictJSONRequest({"type": "http", "headers": [], "app": app}, receive)


@pytest.fixture
def app() -> object:
    settings = SimpleNamespace(max_request_bytes=2**20)
    return SimpleNamespace(state=SimpleNamespace(settings=settings, json_turns=CapacityLimiter(1)))


async def test_others_are_answered_while_a_large_body_is_read_and_one_is_read_at_a_time(
    app: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_json, others_answered, at_once, most = json_body.read_json, threading.Event(), 0, 0

    def read_slowly(body: bytes) -> Any:
        nonlocal at_once, most
        if len(body) > len(SMALL):
            at_once += 1
            most = max(most, at_once)
            assert others_answered.wait(10)
            at_once -= 1
        return read_json(body)

    monkeypatch.setattr(json_body, "read_json", read_slowly)
    large = [asyncio.create_task(request_of(LARGE, app).json()) for _ in range(3)]
    while not most:  # noqa: ASYNC110 - a thread says it
        await asyncio.sleep(0.001)
    assert await request_of(SMALL, app).json() == {"a": 1}
    assert not any(each.done() for each in large)
    others_answered.set()
    assert await asyncio.gather(*large) == [json.loads(LARGE)] * 3
    assert most == 1


async def test_a_large_body_is_read_as_strictly(app: object) -> None:
    with pytest.raises(json.JSONDecodeError):
        await request_of(TWICE, app).json()
