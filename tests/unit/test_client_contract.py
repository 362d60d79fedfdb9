"""The client's types are those of the contract, and outlive it: newer services, retries, what is imported."""

import inspect
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

import memaudit.types
from app.errors import PROBLEM_BASE, IdempotencyInFlight
from memaudit import AnswerNotUnderstood, Client, Conflict, MemauditError, ServiceUnreachable, TooManyRequests
from memaudit.base import Answer
from memaudit.types import Audit, Edit, LanguageModel, PresetList
from tests.acceptance.openapi_snapshot import SNAPSHOT
from tests.both_clients import FACES, client_of
from tests.client_build.rendering import Style, models
from tests.client_build.schemas import client_names, read_contract

KEY = "mak_hush"
MODEL: dict[str, Any] = {
    "object": "language_model",
    "id": "mdl_1",
    "status": "ready",
    "source": {"type": "hub", "repo": "a/b"},
    "metadata": {},
    "created_at": "2026-01-01T00:00:00Z",
}
IN_FLIGHT = {
    "type": f"{PROBLEM_BASE}{IdempotencyInFlight.slug}",
    "title": IdempotencyInFlight.title,
    "status": 409,
    "detail": "Repeat it later.",
}
GATE: dict[str, Any] = {
    "object": "gate",
    "id": "gat_1",
    "status": "running",
    "policy": "pol_1",
    "policy_name": "a line\u2028and\x85another",
    "policy_version": 1,
    "policy_sha256": "0" * 64,
    "subject": {"kind": "audit", "id": "aud_1"},
    "rules": [],
    "preregistered": False,
    "progress": {"done": 0, "total": 1, "unit": "rules"},
    "metadata": {},
    "created_at": "2026-01-01T00:00:00Z",
}
Handler = Callable[[httpx.Request], httpx.Response]


def test_every_answer_of_the_contract_has_a_type_that_can_be_built() -> None:
    contract = read_contract(json.loads(SNAPSHOT.read_text()))
    names = client_names(contract.schemas)
    for name in contract.answers:
        if not name.startswith("Page_"):
            kind = getattr(memaudit.types, names[name])
            if inspect.isclass(kind) and issubclass(kind, Answer):
                assert kind.model_rebuild(force=True)
                assert kind.model_fields.keys() == contract.schemas[name]["properties"].keys()


def test_what_a_newer_service_adds_is_kept() -> None:
    waiting = {
        "reason": {"type": "t", "title": "T", "status": 503, "detail": "D", "hint": "new"},
        "attempts": 1,
        "since": "2026-01-01T00:00:00Z",
        "next_try_at": "2026-01-01T00:01:00Z",
    }
    model = LanguageModel.model_validate(MODEL | {"status": "paused", "waiting": waiting, "shards": [1]})
    assert (model.status, model.model_dump()["shards"]) == ("paused", [1])
    assert model.waiting is not None
    assert model.waiting.reason.model_dump()["hint"] == "new"
    presets = PresetList.model_validate(
        {"data": [{"object": "policy_preset", "name": "n"}], "has_more": True}
    )
    assert presets.data == [{"object": "policy_preset", "name": "n"}]


def test_new_values_of_enumerations_and_new_members_of_unions_are_taken() -> None:
    """On a small contract: closed values would refuse what the next release says."""
    schemas = {
        "Cat": {"properties": {"kind": {"type": "string", "const": "cat"}}, "required": ["kind"]},
        "Dog": {"properties": {"kind": {"type": "string", "const": "dog"}}, "required": ["kind"]},
        "Zoo": {
            "properties": {
                "mood": {"type": "string", "enum": ["calm", "loud"]},
                "unit": {"type": "string", "const": "animals"},
                "star": {
                    "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
                },
            },
            "required": ["mood", "unit", "star"],
        },
    }
    style = Style({name: name for name in schemas}, open=True, array="list")
    namespace = dict(vars(memaudit.types))
    exec("from __future__ import annotations\n" + "\n".join(models(schemas, style)), namespace)
    zoo = namespace["Zoo"]
    for kind in ("Cat", "Dog", "Zoo"):
        namespace[kind].model_rebuild(_types_namespace=namespace)
    known = zoo.model_validate({"mood": "calm", "unit": "animals", "star": {"kind": "dog"}})
    assert isinstance(known.star, namespace["Dog"])
    newer = zoo.model_validate({"mood": "sad", "unit": "plants", "star": {"kind": "fox", "tails": 9}})
    assert (newer.mood, newer.unit, newer.star) == ("sad", "plants", {"kind": "fox", "tails": 9})


def test_work_has_what_all_work_has() -> None:
    assert issubclass(Audit, memaudit.types.Work)
    assert issubclass(Edit, memaudit.types.Work)
    assert issubclass(memaudit.types.Work, Answer)


def test_importing_the_client_imports_nothing_of_the_service() -> None:
    script = (
        "import sys, memaudit; heavy = {'torch', 'fastapi', 'sqlalchemy', 'celery', 'app', 'workers'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_key_comes_from_the_environment_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMAUDIT_API_KEY", raising=False)
    with pytest.raises(ValueError, match="MEMAUDIT_API_KEY"):
        Client()
    monkeypatch.setenv("MEMAUDIT_API_KEY", KEY)
    monkeypatch.setenv("MEMAUDIT_URL", "http://memaudit.test/")
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=MODEL)

    with Client(transport=httpx.MockTransport(answer)) as client:
        client.models.get("mdl_1")
        assert repr(client) == "Client('http://memaudit.test')"
        assert KEY not in repr(vars(client)) + repr(vars(vars(client)["_sender"]))
    assert str(sent[0].url) == "http://memaudit.test/v1/models/mdl_1"
    assert sent[0].headers["Authorization"] == f"Bearer {KEY}"
    assert sent[0].headers["User-Agent"].startswith("memaudit-python/")


def answers(*responses: httpx.Response | type[Exception]) -> tuple[Handler, list[httpx.Request]]:
    """What answers one request after another, and the requests."""
    waiting, seen = list(responses), []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        response = waiting.pop(0)
        if isinstance(response, type):
            raise response("broken")
        return response

    return answer, seen


@pytest.mark.parametrize("face", FACES)
async def test_what_passes_is_tried_again_with_the_same_key(face: str) -> None:
    answer, seen = answers(
        httpx.Response(503),
        httpx.Response(429, headers={"Retry-After": "0"}),
        httpx.ReadError,
        httpx.DecodingError,
        httpx.Response(409, json=IN_FLIGHT),  # the service is still at what was lost
        httpx.Response(502, text="<html>"),
        httpx.Response(202, json=MODEL | {"status": "queued"}),
    )
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        model = await client.models.register(source={"type": "hub", "repo": "a/b"})
    assert model.id == "mdl_1"
    assert len(seen) == 7
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1
    assert len({request.content for request in seen}) == 1


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"status_code": 500, "json": {}}, MemauditError),
        ({"status_code": 429}, TooManyRequests),  # nobody says when to come again
        # Longer than the patience.
        ({"status_code": 503, "headers": {"Retry-After": "60"}}, ServiceUnreachable),
        ({"status_code": 200, "text": "<html>"}, AnswerNotUnderstood),
        ({"status_code": 200, "json": MODEL | {"created_at": []}}, AnswerNotUnderstood),
    ],
    ids=["500", "429", "503 for a minute", "no JSON", "no language model"],
)
async def test_what_does_not_pass_is_told_at_once(
    face: str, response: dict[str, Any], error: type[Exception]
) -> None:
    answer, seen = answers(httpx.Response(**response))
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(error):
            await client.models.get("mdl_1")
    assert len(seen) == 1


@pytest.mark.parametrize("face", FACES)
async def test_what_may_have_had_its_effect_is_not_sent_again(face: str) -> None:
    answer, seen = answers(httpx.ConnectError, httpx.ReadError, httpx.Response(204))
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ServiceUnreachable) as lost:
            await client.models.delete("mdl_1")
    assert (len(seen), lost.value.sent) == (2, True)


@pytest.mark.parametrize("face", FACES)
async def test_another_conflict_is_told_at_once(face: str) -> None:
    answer, seen = answers(httpx.Response(409, json=IN_FLIGHT | {"type": f"{PROBLEM_BASE}conflict"}))
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(Conflict):
            await client.models.register(source={"type": "hub", "repo": "a/b"})
    assert len(seen) == 1


@pytest.mark.parametrize("face", FACES)
async def test_a_list_that_is_none(face: str) -> None:
    answer, _ = answers(httpx.Response(200, json={"hello": "world"}))
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(AnswerNotUnderstood):
            [model async for model in client.models.list()]


@pytest.mark.parametrize("face", FACES)
async def test_a_page_that_cannot_be_given_out_now_is_asked_for_again(face: str) -> None:
    later = {"Retry-After": "0"}
    answer, seen = answers(
        httpx.Response(200, json={"data": [MODEL], "has_more": True, "next_cursor": "two"}),
        httpx.Response(503, headers=later),
        httpx.Response(429, headers=later),
        httpx.Response(200, json={"data": [MODEL | {"id": "mdl_2"}], "has_more": False, "next_cursor": None}),
    )
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        assert [model.id async for model in client.models.list()] == ["mdl_1", "mdl_2"]
    assert [request.url.params.get("cursor") for request in seen] == [None, "two", "two", "two"]


@pytest.mark.parametrize("face", FACES)
async def test_work_that_has_not_ended_is_waited_for(face: str) -> None:
    """In a way that a newer service may have, and by a client that bears little silence."""
    answer, seen = answers(
        httpx.Response(200, json=MODEL | {"status": "paused"}), httpx.Response(200, json=MODEL)
    )
    transport = httpx.MockTransport(answer)
    async with client_of(face, "http://m.test", KEY, timeout=10.0, transport=transport) as client:
        model = await client.models.wait("mdl_1")
    assert model.status == "ready"
    assert all(float(request.url.params["wait"]) <= 5 for request in seen)


class Blocks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in blocks, with silence before its end or its break."""

    def __init__(self, *blocks: bytes, silent: float = 0, broken: bool = False) -> None:
        self._blocks, self._silent, self._broken = blocks, silent, broken

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blocks
        time.sleep(self._silent)
        if self._broken:
            raise httpx.ReadError("broken")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self:
            yield block


def told(number: int, **gate: Any) -> bytes:
    """An event, as the service writes it."""
    data = json.dumps(GATE | gate, ensure_ascii=False)
    return f"event: {gate.get('status')}\ndata: {data}\nid: {number}\nretry: 1000\n\n".encode()


@pytest.mark.parametrize("face", FACES)
async def test_events_are_followed_to_the_end_of_the_work(face: str) -> None:
    """Names hold what some take for ends of lines; connections break after long silence, and end early."""
    first, second, last = told(1), told(2), told(3, status="succeeded", outcome="pass")
    answer, seen = answers(
        httpx.Response(200, stream=Blocks(first[:150], first[150:], silent=0.4, broken=True)),
        httpx.Response(200, stream=Blocks(b": still here\n\n", second)),
        httpx.Response(200, stream=Blocks(last)),
    )
    transport = httpx.MockTransport(answer)
    async with client_of(face, "http://m.test", KEY, patience=0.3, transport=transport) as client:
        events = [event async for event in client.gates.events("gat_1")]
    assert [event.id for event in events] == ["1", "2", "3"]
    assert [event.status for event in events] == ["running", "running", "succeeded"]
    assert {event.data.policy_name for event in events} == {GATE["policy_name"]}
    assert [request.headers.get("Last-Event-ID") for request in seen] == [None, "1", "2"]
