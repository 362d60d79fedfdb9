"""The Python client, both faces of it, against real processes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import memaudit
from tests.both_clients import FACES, client_of
from tests.cutting_proxy import cutting_proxy
from tests.deployments import Deploy, Deployment

TEXTS = [
    {
        "id": f"text-{number}",
        "text": f"Text number {number} tells of {number * 7} larks.",
        "duplicates": number,
    }
    for number in range(7)
]


@pytest.fixture(scope="module")
def deployment(module_deploy: Deploy) -> Deployment:
    deployment = module_deploy()
    deployment.service.start_worker()
    return deployment


@pytest.fixture(scope="module", params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(deployment: Deployment, face: str) -> AsyncIterator[Any]:
    async with client_of(face, deployment.service.url, deployment.service.key) as client:
        yield client


@pytest.fixture(scope="module")
async def audit(deployment: Deployment, face: str, tiny_checkpoint: Path) -> memaudit.types.Audit:
    """A succeeded audit, made by the client."""
    async with client_of(face, deployment.service.url, deployment.service.key) as client:
        text_set = await client.text_sets.create(name="larks", texts=TEXTS)
        asked = await client.audits.create(
            model={"type": "path", "path": str(tiny_checkpoint)},
            text_set=text_set.id,
            metrics=["nl", "extraction"],
            metadata={"face": face},
        )
        seen: list[str] = []
        ended = await client.audits.wait(
            asked.id, on_progress=lambda audit: seen.append(audit.status), must_succeed=True
        )
    assert seen[-1] == ended.status == "succeeded"
    return ended


async def test_an_audit_and_its_scores(client: Any, audit: Any, tmp_path: Path) -> None:
    assert audit.progress.done == audit.summary.texts == len(TEXTS)
    scores = [score async for score in client.audits.scores(audit.id, page_size=3)]
    assert [score.text_id for score in scores] == [text["id"] for text in TEXTS]
    highest = [score async for score in client.audits.scores(audit.id, sort="-nl", page_size=5)]
    assert [score.nl for score in highest] == sorted((score.nl for score in scores), reverse=True)
    target = tmp_path / "scores.parquet"
    await client.audits.save_scores(audit.id, target)
    assert pq.read_table(target)["nl"].to_pylist() == [score.nl for score in scores]
    assert list(tmp_path.iterdir()) == [target]
    evidence = await client.audits.tokens(audit.id, "text-3")
    total = sum(token.log_likelihood for token in evidence.tokens)
    assert total == pytest.approx(scores[3].log_likelihood)
