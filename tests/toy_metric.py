"""A metric added through the registries alone, and an audit of it, in a process of its own.

Run with the URLs of a database and of a broker, a home and a checkpoint's directory. It prints as JSON what
the service showed.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.contracts.metrics import registry as contracts
from app.contracts.metrics.metric import Metric as Contract
from app.contracts.metrics.metric import SummaryNumber, SummaryObject
from workers.science.metrics import registry as science
from workers.science.metrics.metric import JSONObject, Metric, MetricResult, Need
from workers.science.metrics.splits import Split, Splittable
from workers.science.metrics.tokens import ScoredTokens

NAME = "weakest"
TEXTS = [
    {"id": "a", "text": "The first text is short.", "group": "g", "duplicates": 0},
    {"id": "b", "text": "The second one is a little longer than that.", "group": "g", "duplicates": 4},
    {"id": "c", "text": "A third.", "group": "g", "duplicates": 4},
    {"id": "empty", "text": ""},
]


class WeakestScore(BaseModel):
    """The token that a model expects least."""

    log_likelihood: Annotated[float, Field(description="Of that token, in nats.")]
    ends_well: Annotated[bool, Field(description="Whether the last token is the greedy choice.")]


class WeakestSummary(BaseModel):
    """The text whose weakest token is weakest."""

    least: float


CONTRACT = Contract(
    name=NAME,
    score=WeakestScore,
    numbers=(
        SummaryNumber(
            name="weakest_log_likelihood",
            of="log_likelihood",
            kind="mean",
            description="Null if not asked for.",
            by_level=True,
        ),
        SummaryNumber(name="ends_well", of="ends_well", kind="share", description="Null if not asked for."),
    ),
    summary=SummaryObject(name="weakest", schema=WeakestSummary, description="Null if not asked for."),
)


def last_token(text: Splittable) -> Sequence[Split]:
    return (Split("ok", text.n_tokens - 1, 1),)


def compute(tokens: ScoredTokens, splits: Sequence[Split]) -> MetricResult:
    (split,) = splits
    return {
        "log_likelihood": float(tokens.log_likelihood.min()),
        "ends_well": tokens.matched(split) == split.suffix_tokens,
    }


class Weakest:
    def __init__(self) -> None:
        self._least: float | None = None

    def add(self, found: JSONObject) -> None:
        self._least = min(found["log_likelihood"], self._least or 0.0)

    def result(self) -> JSONObject | None:
        return None if self._least is None else {"least": self._least}


METRIC = Metric(
    name=NAME, compute=compute, needs=frozenset({Need.CHOICES}), splits=last_token, summary=Weakest
)


def register() -> None:
    """Add the metric; before anything else of the service is imported, as its own files would be."""
    contracts.METRICS[NAME] = CONTRACT
    science.METRICS[NAME] = METRIC


async def audit(database_url: str, broker_url: str, home: str, checkpoint: str) -> dict[str, Any]:
    """Audit TEXTS for the metric and read all that is shown of it."""
    from app.settings import Settings  # noqa: PLC0415 - after `register`
    from tests.http_api import client_of, make_key, running_app  # noqa: PLC0415
    from tests.own_worker import run_next  # noqa: PLC0415
    from workers.running.runtime import make_runtime  # noqa: PLC0415

    settings = Settings(
        database_url=database_url,
        broker_url=broker_url,
        home=Path(home),
        model_roots=[Path(checkpoint)],
        lease_seconds=60,
    )
    runtime = make_runtime(settings)
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        text_set = await client.post("/v1/text-sets", json={"name": "texts", "texts": TEXTS})
        requested = await client.post(
            "/v1/audits",
            json={
                "model": {"type": "path", "path": checkpoint},
                "text_set": text_set.json()["id"],
                "metrics": [NAME],
            },
            headers={"Idempotency-Key": "k"},
        )
        assert requested.status_code == 202, requested.text
        path = f"/v1/audits/{requested.json()['id']}"
        while (shown := (await client.get(path)).json())["status"] in {"queued", "running"}:
            await asyncio.to_thread(run_next, runtime)
        tokens = [(await client.get(f"{path}/scores/{text['id']}/tokens")).json() for text in TEXTS[:-1]]
        return {
            "audit": shown,
            "scores": (await client.get(f"{path}/scores")).json()["data"],
            "csv": (await client.get(f"{path}/scores", headers={"Accept": "text/csv"})).text,
            "tokens": [evidence["tokens"] for evidence in tokens],
            "openapi": app.openapi()["components"]["schemas"],
        }


if __name__ == "__main__":
    register()
    found = asyncio.run(audit(*sys.argv[1:]))
    Path(sys.argv[3], "found.json").write_text(json.dumps(found))
