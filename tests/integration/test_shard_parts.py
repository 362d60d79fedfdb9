"""A shard that gives way to others. Oracle: the same audit that nobody waits beside, bit for bit."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.http_api import client_of, make_key, settings_with_models
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_tiny_model
from workers.audits import score
from workers.running.runtime import Runtime

TEXTS = [{"text": sentence[:200]} for sentence in english_sentences()[:24]]
METRICS = ["nl", "extraction", "membership"]
SHARDS = """
    SELECT payload ->> 'start', payload ->> 'stop' FROM jobs WHERE kind = 'score_shard' ORDER BY id
"""


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


class Tenant:
    """Requests of one tenant."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self._http.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        return answer.json()

    async def audit(self, model: str, **fields: Any) -> str:
        texts = (await self.post("/v1/text-sets", {"name": "texts", "texts": TEXTS}))["id"]
        options = {"prefix_tokens": 8, "suffix_tokens": 6, "token_evidence": False}
        body = {"model": model, "text_set": texts, "metrics": METRICS, "options": options} | fields
        return str((await self.post("/v1/audits", body))["id"])

    async def read(self, path: str) -> Any:
        return (await self._http.get(path)).raise_for_status().json()

    async def scores(self, audit: str) -> list[dict[str, Any]]:
        rows = (await self.read(f"/v1/audits/{audit}/scores?limit=100"))["data"]
        return [{name: value for name, value in row.items() if name != "text_id"} for row in rows]


async def test_what_is_left_of_a_shard_is_scored_later_and_nothing_twice(
    app: FastAPI,
    settings: Settings,
    runtime: Runtime,
    database: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run(jobs: int) -> list[str]:
        return [await asyncio.to_thread(run_next, runtime) for _ in range(jobs)]

    # About four parts.
    monkeypatch.setattr(score, "most_tokens_of_part", lambda *_, **__: 300)
    async with client_of(app, make_key(settings)) as http:
        tenant = Tenant(http)
        source = {"type": "path", "path": str(save_tiny_model(tmp_path / "model"))}
        model = (await tenant.post("/v1/models", {"source": source}))["id"]
        await run(1)
        undisturbed = await tenant.audit(model)
        assert await run(3) == ["plan_audit", "score_shard", "summarize_audit"]

        disturbed = await tenant.audit(model)
        assert await run(1) == ["plan_audit"]
        found = []
        with monkeypatch.context() as patch:
            # Somebody waits whenever it is asked.
            patch.setattr(score, "others_wait", lambda *_: found.append(True) or True)
            await run(1)
        audit = await tenant.read(f"/v1/audits/{disturbed}")
        (_, _), (first, last), (left, end) = database.execute(SHARDS).fetchall()
        assert found == [True]
        assert (first, last, end) == ("0", "24", "24")
        assert 0 < int(left) < 24
        assert (audit["status"], audit["progress"]["done"]) == ("running", int(left))
        assert await run(2) == ["score_shard", "summarize_audit"]
        assert (await tenant.read(f"/v1/audits/{disturbed}"))["status"] == "succeeded"
        assert len(await tenant.scores(disturbed)) == 24
        assert await tenant.scores(disturbed) == await tenant.scores(undisturbed)
