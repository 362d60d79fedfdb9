"""A tenant that asks for edits of a tiny model, and the worker that runs them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import httpx
import psycopg
import safetensors.torch
import torch
from fastapi import FastAPI

from app.settings import Settings
from tests.http_api import client_of, make_key
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_tiny_model
from workers.edits import figures
from workers.running.runtime import Runtime

SCOPES = ("audit:read", "audit:write", "edit:read", "edit:write")
BLOCK_TOKENS = 32
Rows = list[tuple[Any, ...]]


@asynccontextmanager
async def edit_client(
    app: FastAPI, settings: Settings, runtime: Runtime, database: psycopg.Connection, directory: Path
) -> AsyncIterator["EditClient"]:
    """A tenant that is prepared, with its language model in a directory of `directory`.

    Figures are not drawn: that takes longer than the rest of a tiny edit, and has tests of its own.
    """
    drawn = patch.object(figures, "run_apart", lambda calls, _seconds: [b"<svg/>"] * len(calls))
    async with client_of(app, make_key(settings, scopes=SCOPES)) as http:
        with drawn:
            client = EditClient(http, runtime, database)
            await client.prepare(directory / "model")
            yield client


class EditClient:
    """Requests of one tenant; jobs run in this process when the test says so."""

    def __init__(self, http: httpx.AsyncClient, runtime: Runtime, database: psycopg.Connection) -> None:
        self.http = http
        self.runtime = runtime
        self.rows: Callable[[str], Rows] = lambda statement: database.execute(statement.encode()).fetchall()
        self.sets: dict[str, str] = {}
        self.texts: dict[str, list[str]] = {}
        self.model = ""
        self.checkpoint = Path()

    async def prepare(self, directory: Path) -> None:
        """A language model, and texts of about 1,500 tokens, the first of which has none."""
        self.checkpoint = save_tiny_model(directory)
        source = {"type": "path", "path": str(self.checkpoint)}
        self.model = (await self.post("/v1/models", {"source": source}))["id"]
        await self.run()
        sentences = [sentence[:120] for sentence in english_sentences()]
        await self.upload("calibration", ["", *sentences[:40]])
        await self.upload("clean", sentences[50:54])

    async def upload(self, role: str, texts: list[str]) -> None:
        records = [{"text": text} for text in texts]
        answer = await self.http.post("/v1/text-sets", json={"name": role, "texts": records})
        self.sets[role] = answer.json()["id"]
        self.texts[role] = texts

    async def run(self, jobs: int = 1) -> list[str]:
        return [await asyncio.to_thread(run_next, self.runtime) for _ in range(jobs)]

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        return dict(answer.json())

    async def request(self, name: str, **fields: Any) -> str:
        body = {
            "model": self.model,
            "name": name,
            "method": "kfac",
            "layers": [0, 1],
            "block_tokens": BLOCK_TOKENS,
            "calibration_text_set": self.sets["calibration"],
            "evaluation": {"clean_text_set": self.sets["clean"]},
            **fields,
        }
        return str((await self.post("/v1/edits", body))["id"])

    async def edit(self, edit_id: str) -> dict[str, Any]:
        return dict((await self.http.get(f"/v1/edits/{edit_id}")).json())

    async def weights(self, edit: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The tensors of the edited model, by their names."""
        answer = await self.http.get(f"/v1/artifacts/{edit['artifact']}/files/model.safetensors")
        assert answer.status_code == 200
        return safetensors.torch.load(answer.content)

    def shards_of(self, tokens: int) -> None:
        """What follows is cut into shards of so many tokens."""
        self.runtime.settings.collection_shard_tokens = tokens

    def factors(self) -> Rows:
        """What is kept of factors; they are forgotten then."""
        kept = self.rows("SELECT projection, side, tokens, sha256, relative_error FROM factors ORDER BY 1, 2")
        self.rows("WITH gone AS (DELETE FROM factors RETURNING 1) SELECT * FROM gone")
        return kept
