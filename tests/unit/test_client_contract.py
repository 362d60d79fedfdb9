"""The client's types are those of the contract, and outlive it: newer services, retries, what is imported."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import memaudit.types
from memaudit import AnswerNotUnderstood, Client, MemauditError, ServiceUnreachable, TooManyRequests
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
        httpx.Response(502, text="<html>"),
        httpx.Response(202, json=MODEL | {"status": "queued"}),
    )
    async with client_of(face, "http://m.test", KEY, transport=httpx.MockTransport(answer)) as client:
        model = await client.models.register(source={"type": "hub", "repo": "a/b"})
    assert model.id == "mdl_1"
    assert len(seen) == 5
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
