"""An audit for all of HUBBLE's tasks, from texts to a summary. The science has oracles of its own."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.http_api import client_of, make_key, settings_with_models
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_reciting_model
from workers.running.runtime import Runtime

METRICS = ["multiple_choice", "field_recall", "paraphrase"]
RECITED = [sentence for sentence in english_sentences() if len(sentence) > 300][:2]
SECRET = "zyzzyva"


def recited(number: int) -> dict[str, Any]:
    """A question, a field and a wording that the model has learned by heart."""
    text = RECITED[number][:200].rsplit(" ", 1)[0]
    question, answer = text.rsplit(" ", 1)
    return {
        "text": text,
        "group": "known",
        "duplicates": number,
        "choices": [SECRET, answer],
        "answer": 1,
        "metadata": {
            "multiple_choice": {"question": question},
            "field_recall": {"prompts": {"full": question, "name_only": SECRET}, "answer": answer},
            "paraphrase": {"paraphrases": [text.upper()]},
        },
    }


TEXTS = [
    *map(recited, range(2)),
    {"text": "Nothing is asked.", "group": "plain"},
    {"text": "Asked badly.", "choices": ["a"], "answer": 0, "metadata": dict.fromkeys(METRICS, SECRET)},
    {"text": "", "choices": ["a"], "answer": 0},
]


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


async def audited(client: httpx.AsyncClient, runtime: Runtime, checkpoint: Path) -> str:
    """The path of an audit of TEXTS that has ended."""
    text_set = await client.post("/v1/text-sets", json={"name": "texts", "texts": TEXTS})
    body = {
        "model": {"type": "path", "path": str(checkpoint)},
        "text_set": text_set.json()["id"],
        "metrics": METRICS,
    }
    requested = await client.post("/v1/audits", json=body, headers={"Idempotency-Key": "k"})
    assert requested.status_code == 202, requested.text
    path = f"/v1/audits/{requested.json()['id']}"
    while (await client.get(path)).json()["status"] in {"queued", "running"}:
        await asyncio.to_thread(run_next, runtime)
    return path


async def test_texts_are_asked_what_they_ask(
    app: FastAPI, settings: Settings, runtime: Runtime, tmp_path: Path
) -> None:
    checkpoint = save_reciting_model(tmp_path / "checkpoint", RECITED)
    async with client_of(app, make_key(settings)) as client:
        path = await audited(client, runtime, checkpoint)
        audit = (await client.get(path)).json()
        answer = await client.get(f"{path}/scores")
    assert audit["status"] == "succeeded"
    *known, plain, bad, empty = answer.json()["data"]
    for row in known:
        assert row["multiple_choice"]["correct"] is row["paraphrase"]["preferred"] is True
        assert row["field_recall"]["full"]["prefix_match"] is True
        assert row["field_recall"]["name_only"]["prefix_match"] is False
        assert row["field_recall"]["intro"] is None
    assert {plain[metric]["status"] for metric in METRICS} == {"not_applicable"}
    assert {bad[metric]["status"] for metric in METRICS} == {"malformed"}
    assert [empty[metric] for metric in METRICS] == [None] * 3

    summary = audit["summary"]
    counts = {"ok": 2, "not_applicable": 1, "malformed": 1, "unscorable": 0}
    assert [summary[metric] for metric in METRICS] == [counts] * 3
    for number in ("accuracy", "prefix_match_full", "paraphrase_preferred"):
        assert (summary[number]["n"], summary[number]["share"]) == (2, 1)
        by_level = {(level["group"], level["duplicates"]): level[number] for level in summary["levels"]}
        assert by_level["known", 1]["n"] == 1
        assert by_level["plain", None] is None
    assert summary["recall_name_only"]["n"] == summary["f1_name_only"]["n"] == 2
    assert summary["recall_intro"] is None
    # Neither what was asked nor what was said is in the answer.
    shown = answer.text + json.dumps(audit)
    assert SECRET not in shown
    assert RECITED[0][:20] not in shown
