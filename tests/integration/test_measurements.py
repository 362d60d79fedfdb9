"""Measurements are asked for, made, shown and summed up like any metric."""

import asyncio
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_tiny_model
from workers.running.runtime import Runtime

TEXTS = [
    {"id": "long", "text": " ".join(english_sentences()[:12])},
    {"id": "short", "text": "A short one."},
    {"id": "empty", "text": ""},
]
WINDOWS = {"prefix_tokens": 20, "suffix_tokens": 30, "stride": 25}


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        home=tmp_path,
        model_roots=[tmp_path],
        lease_seconds=60,
    )


async def test_an_audit_shows_what_measurements_find(
    client: httpx.AsyncClient, runtime: Runtime, tmp_path: Path
) -> None:
    checkpoint = save_tiny_model(tmp_path / "checkpoint")
    text_set = await client.post("/v1/text-sets", json={"name": "texts", "texts": TEXTS})
    asked = await client.post(
        "/v1/audits",
        json={
            "model": {"type": "path", "path": str(checkpoint)},
            "text_set": text_set.json()["id"],
            "metrics": ["windows", "near_verbatim"],
            "options": {"windows": WINDOWS, "near_verbatim": {"similarity": 1.0, "beams": 4}},
        },
        headers={"Idempotency-Key": "k"},
    )
    assert asked.status_code == 202, asked.text
    path = f"/v1/audits/{asked.json()['id']}"
    while (shown := (await client.get(path)).json())["status"] in {"queued", "running"}:
        await asyncio.to_thread(run_next, runtime)
    assert shown["status"] == "succeeded"
    assert shown["options"]["windows"] == WINDOWS
    assert shown["progress"]["done"] == len(TEXTS)

    scores = {row["text_id"]: row for row in (await client.get(f"{path}/scores")).json()["data"]}
    long = scores["long"]
    assert long["windows"]["windows"] == (long["n_tokens"] - 50) // 25 + 1
    assert len(long["windows"]["coverage"]) == long["windows"]["windows"]
    assert long["near_verbatim"]["log_p"] == long["near_verbatim"]["log_p_z"]
    assert scores["short"]["windows"]["status"] == "not_applicable"
    assert scores["short"]["near_verbatim"]["status"] == "scaled"
    assert scores["empty"]["error"]
    assert (scores["empty"]["windows"], scores["empty"]["near_verbatim"]) == (None, None)

    summary = shown["summary"]
    assert (summary["windows"]["documents"], summary["windows"]["not_applicable"]) == (1, 1)
    assert summary["near_verbatim"]["splits"] == {"ok": 1, "scaled": 1, "not_applicable": 0}
