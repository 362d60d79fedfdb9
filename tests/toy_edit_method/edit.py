"""An edit by the toy method from request to artifact. The method must be registered before this is imported.

Run in a process of its own: contracts derive from the registry when they are imported.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.settings import Settings
from tests.http_api import client_of, make_key, running_app
from tests.own_worker import run_next
from workers.running.runtime import make_runtime


def main() -> None:
    """Edit a language model and print what came of it. Arguments: database, broker, home, model."""
    database_url, broker_url, home, model = sys.argv[1:]
    settings = Settings(
        database_url=database_url, broker_url=broker_url, home=Path(home), model_roots=[Path(model).parent]
    )
    print(json.dumps(asyncio.run(_edit(settings, model))))  # noqa: T201 - what the test reads


async def _edit(settings: Settings, model: str) -> dict[str, Any]:
    runtime = make_runtime(settings)
    key = make_key(settings, scopes=("audit:read", "audit:write", "edit:read", "edit:write"))
    async with running_app(settings) as app, client_of(app, key) as client:

        async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            headers = {"Idempotency-Key": uuid4().hex}
            return dict((await client.post(path, json=body, headers=headers)).json())

        base = await post("/v1/models", {"source": {"type": "path", "path": model}})
        await asyncio.to_thread(run_next, runtime)
        body = {"model": base["id"], "method": "zero", "name": "scaled"}
        refused = [
            await post("/v1/edits", body | wrong)
            for wrong in ({"keep_mass": 0.5}, {"zero": {"factor": 2}}, {"method": "svd", "zero": {}})
        ]
        requested = await post("/v1/edits", body | {"zero": {"factor": 0.25}})
        other = await post("/v1/edits", body | {"method": "svd", "name": "cut"})
        await asyncio.to_thread(run_next, runtime)
        edit = (await client.get(f"/v1/edits/{requested['id']}")).json()
        artifact = (await client.get(f"/v1/artifacts/{edit['artifact']}")).json()
        weights = await client.get(f"/v1/artifacts/{edit['artifact']}/files/model.safetensors")
        (settings.home / "edited.safetensors").write_bytes(weights.content)
        document = (await client.get("/openapi.json")).json()
    return {"refused": refused, "edit": edit, "other": other, "artifact": artifact, "openapi": document}
