"""The texts of edits and audits: what cannot be used is refused by name, many are gone through in parts."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from transformers import AutoTokenizer

from app.settings import Settings
from tests.http_api import client_of, make_key, settings_with_models
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_tiny_model
from workers.audits import score as audit_score
from workers.edits import evaluation as edit_evaluation
from workers.running.runtime import Runtime
from workers.science.scoring.scorer import score_texts

SCOPES = ("audit:read", "audit:write", "edit:read", "edit:write")
SPLIT = {"prefix_tokens": 16, "suffix_tokens": 8}
SENTENCES = [sentence[:200] for sentence in english_sentences()[:24]]
SHARD_TOKENS = 300
SHARD_TEXTS = 5
UNKNOWN = "The zyzzyva is a weevil."


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    small = {"shard_tokens": SHARD_TOKENS, "shard_texts": SHARD_TEXTS}
    return settings_with_models(database_url, broker_url, tmp_path, **small)


class Client:
    """Requests of one tenant; jobs run in this process when the test says so."""

    def __init__(self, http: httpx.AsyncClient, runtime: Runtime) -> None:
        self.http = http
        self._runtime = runtime

    async def run(self, jobs: int = 1) -> list[str]:
        return [await asyncio.to_thread(run_next, self._runtime) for _ in range(jobs)]

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        return dict(answer.json())

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        return dict((await self.http.get(path, params=params)).json())

    async def register(self, directory: Path) -> str:
        source = {"type": "path", "path": str(directory)}
        model = await self.post("/v1/models", {"source": source})
        await self.run()
        return str(model["id"])

    async def upload(self, texts: list[str]) -> str:
        records = [{"text": text} for text in texts]
        return str((await self.post("/v1/text-sets", {"name": "texts", "texts": records}))["id"])


@pytest.fixture
async def tenant(app: FastAPI, settings: Settings, runtime: Runtime) -> Any:
    async with client_of(app, make_key(settings, scopes=SCOPES)) as http:
        yield Client(http, runtime)


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A checkpoint whose tokenizer was given a token that the weights know nothing of."""
    directory = save_tiny_model(tmp_path / "extended")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["zyzzyva"])
    tokenizer.save_pretrained(directory)
    return directory


UNUSABLE: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("clean", {"method": "kfac"}, {"calibration": "bad"}),
    ("calibration", {"method": "kfac"}, {"calibration": "bad", "clean": "good"}),
    ("clean", {"method": "svd"}, {"clean": "bad"}),
    (
        "clean",
        {"method": "kfac", "sweep": {"keep_mass": [0.9, 1.0]}},
        {"calibration": "good", "forget": "good", "clean": "bad"},
    ),
    ("forget", {"method": "balanced_subnet"}, {"calibration": "good", "forget": "bad"}),
]


@pytest.mark.parametrize(("role", "body", "given"), UNUSABLE)
async def test_a_text_set_with_tokens_that_the_model_has_no_row_for_fails_the_edit_by_its_role(
    tenant: Client,
    extended: Path,
    database: psycopg.Connection,
    role: str,
    body: dict[str, Any],
    given: dict[str, str],
) -> None:
    """By default the calibration set is the clean text too; the clean text is looked at first."""
    model = await tenant.register(extended)
    texts = {"good": SENTENCES, "bad": [*SENTENCES[:3], UNKNOWN]}
    sets = {f"{one}_text_set": await tenant.upload(texts[which]) for one, which in given.items()}
    evaluation = {one: sets.pop(one) for one in ("clean_text_set",) if one in sets}
    request = {"model": model, "name": "never", "layers": [0], "evaluation": evaluation, **body, **sets}
    edit = await tenant.post("/v1/edits", request)
    await tenant.run()
    ended = await tenant.get(f"/v1/edits/{edit['id']}")
    assert ended["status"] == "failed"
    assert ended["error"]["type"].endswith("/edit-failed")
    assert ended["error"]["status"] == 422
    assert f"The {role} text set" in ended["error"]["detail"]
    assert "no row for" in ended["error"]["detail"]
    assert "zyzzyva" not in ended["error"]["detail"]
    assert database.execute("SELECT count(*) FROM factors").fetchone() == (0,)


async def test_texts_that_are_only_scored_may_have_such_tokens(
    tenant: Client, extended: Path, tmp_path: Path
) -> None:
    """A score has a place to say so: they have an error in the proof's audits, and items leave them out."""
    model = await tenant.register(extended)
    memorized = await tenant.upload([*SENTENCES[:6], UNKNOWN])
    items = [
        {"text": "The statement is", "choices": ["true", "a zyzzyva"], "answer": 0, "group": "grammar"},
        {"text": "The value of", "choices": ["a", "an object"], "answer": 0, "group": "grammar"},
        {"prefix": "A zyzzyva is ", "suffix": "a weevil", "group": "animals"},
    ]
    questions = (await tenant.post("/v1/text-sets", {"name": "items", "texts": items}))["id"]
    evaluation = {"memorized_text_set": memorized, "items_text_set": questions, "stress": True, **SPLIT}
    body = {"model": model, "name": "scored", "method": "svd", "evaluation": evaluation}
    edit = await tenant.post("/v1/edits", body)
    await tenant.run()
    ended = await tenant.get(f"/v1/edits/{edit['id']}")
    assert ended["status"] == "succeeded", ended["error"]
    answered = ended["evaluation"]["items"]["multiple_choice"]
    assert answered["n"] == 1
    (task,) = ended["evaluation"]["tasks"]  # of the others nothing could be asked
    assert (task["task"], task["n"], task["change"]["n"]) == ("grammar", 1, 1)
    assert [task[when]["share"] for when in ("before", "after")] == [answered["before"], answered["after"]]
    audit = ended["evaluation"]["sets"]["memorized"]["audits"]["after"]
    rows = (await tenant.get(f"/v1/audits/{audit}/scores"))["data"]
    assert [row["error"] for row in rows] == [None] * 6 + ["token_outside_vocabulary"]


@pytest.fixture
def largest_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many texts were scored at once at most."""
    calls = [0]

    def watched(language_model: Any, texts: Any, *args: Any, **options: Any) -> Any:
        calls.append(len(texts))
        return score_texts(language_model, texts, *args, **options)

    for module in (audit_score, edit_evaluation):
        monkeypatch.setattr(module, "score_texts", watched)
    return lambda: max(calls)


async def test_a_proof_is_scored_in_the_shards_of_an_audit_bit_for_bit(
    tenant: Client, tmp_path: Path, largest_call: Callable[[], int]
) -> None:
    """Oracle: an ordinary audit of the same set, whose shards cut by tokens here and by texts there."""
    model = await tenant.register(save_tiny_model(tmp_path / "model"))
    text_set = await tenant.upload([*SENTENCES, *["a word"] * 7])
    evaluation = {"clean_text_set": text_set, "unseen_text_set": text_set, **SPLIT}
    body = {"model": model, "name": "proved", "method": "svd", "evaluation": evaluation}
    edit = await tenant.post("/v1/edits", body)
    await tenant.run()
    ended = await tenant.get(f"/v1/edits/{edit['id']}")
    assert ended["status"] == "succeeded", ended["error"]
    assert 1 < largest_call() <= SHARD_TEXTS
    for role, metrics in (("clean", ["nl"]), ("unseen", ["nl", "extraction"])):
        for when, scored in (("before", model), ("after", ended["edited_model"])):
            request = {"model": scored, "text_set": text_set, "metrics": metrics}
            audit = await tenant.post("/v1/audits", request | {"options": {**SPLIT, "token_evidence": False}})
            jobs = []
            while not jobs or jobs[-1] != "summarize_audit":
                jobs += await tenant.run()
            assert jobs.count("score_shard") > len(SENTENCES) // SHARD_TEXTS + 2
            proof = ended["evaluation"]["sets"][role]["audits"][when]
            again, proved = [
                await tenant.get(f"/v1/audits/{audit_id}/scores", limit=1000)
                for audit_id in (audit["id"], proof)
            ]
            assert again["data"] == proved["data"]
            first, second = [await tenant.get(f"/v1/audits/{one}") for one in (audit["id"], proof)]
            assert first["summary"] == second["summary"]
            assert first["summary"]["texts"] == len(SENTENCES) + 7


async def test_texts_without_tokens_are_cut_into_shards_too(
    tenant: Client, tmp_path: Path, database: psycopg.Connection
) -> None:
    model = await tenant.register(save_tiny_model(tmp_path / "model"))
    text_set = await tenant.upload([""] * 12)
    audit = await tenant.post("/v1/audits", {"model": model, "text_set": text_set})
    assert await tenant.run() == ["plan_audit"]
    payloads = [
        (payload["start"], payload["stop"])
        for (payload,) in database.execute("SELECT payload FROM jobs WHERE kind = 'score_shard' ORDER BY id")
    ]
    assert payloads == [(0, 5), (5, 10), (10, 12)]
    assert await tenant.run(jobs=4) == ["score_shard"] * 3 + ["summarize_audit"]
    ended = await tenant.get(f"/v1/audits/{audit['id']}")
    assert (ended["status"], ended["summary"]["errors"]) == ("succeeded", 12)
