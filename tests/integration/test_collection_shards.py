"""An edit's curvature in shards: the bits of one job, the end of one edit, and nothing left of the sums."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
from fastapi import FastAPI
from torch import Tensor

from app.errors import StorageFull
from app.maintenance.retention import collect
from app.settings import Settings
from app.store.blobs.collecting import collect_garbage
from app.store.core.sessions import async_engine
from app.store.core.unit_of_work import Store
from app.store.jobs.claiming import claim
from app.store.jobs.kinds import COLLECT_FACTORS, RUN_EDIT
from tests.http_api import settings_with_models
from tests.integration.edit_client import EditClient, Rows, edit_client
from workers.edits import partial_sums
from workers.edits.factors import FactorStore
from workers.edits.inputs import begin
from workers.edits.partial_sums import joined_factors
from workers.edits.progress import EditProgress
from workers.running.handlers import HANDLERS
from workers.running.loop import run_job
from workers.running.runtime import Runtime
from workers.science.curvature.kfac import Factors
from workers.science.models.projections import find_projections


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


class Untold(EditProgress):
    """Of an edit that a test takes a part of."""

    def __init__(self) -> None:
        """Without a lease."""

    def report(self, _done: int, _total: int) -> None:
        """Tell nobody."""


@pytest.fixture
async def tenant(
    app: FastAPI, settings: Settings, runtime: Runtime, database: psycopg.Connection, tmp_path: Path
) -> Any:
    async with edit_client(app, settings, runtime, database, tmp_path) as client:
        yield client


async def remove_what_is_not_needed(settings: Settings) -> None:
    engine = async_engine(settings.require_database_url(), pool_size=1)
    await collect(Store(engine), settings)
    await collect_garbage(Store(engine), older_than=timedelta(0))
    await engine.dispose()


async def test_shards_leave_the_factors_of_one_job_bit_for_bit(
    tenant: EditClient, settings: Settings
) -> None:
    found: list[tuple[Rows, dict[str, Any]]] = []
    for tokens, shards in ((10**9, 0), (1, 4), (700, 2)):
        tenant.shards_of(tokens)
        edit_id = await tenant.request(f"in-{shards}")
        jobs = await tenant.run(1 if not shards else shards + 2)
        assert jobs == [RUN_EDIT.name, *[COLLECT_FACTORS.name] * shards, *[RUN_EDIT.name] * bool(shards)]
        edit = await tenant.edit(edit_id)
        assert edit["status"] == "succeeded", edit["error"]
        found.append((tenant.factors(), edit["receipt"]))
    (alone, receipt), *others = found
    assert len(alone) == 8
    assert all(row[-1] > 0 for row in alone)
    for factors, shared in others:
        assert factors == alone
        assert shared["matrices"] == receipt["matrices"]
        assert shared["parameters"] == receipt["parameters"]
    convergence = receipt["matrices"][0]["convergence"]
    tokens = receipt["parameters"]["calibration_tokens"]
    assert (convergence["tokens_per_input"], convergence["tokens_per_output"]) == (tokens / 32, tokens / 64)
    assert {convergence["inputs_error"], convergence["outputs_error"]} <= {row[-1] for row in alone}
    assert tenant.rows("SELECT count(DISTINCT edit_id), count(*) FROM partial_factors") == [(2, 48)]
    await remove_what_is_not_needed(settings)
    assert tenant.rows("SELECT count(*) FROM partial_factors") == [(0,)]
    referred = "SELECT sha256 FROM artifact_files UNION SELECT sha256 FROM factors"
    assert tenant.rows(f"SELECT count(*) FROM blobs WHERE sha256 NOT IN ({referred})") == [(0,)]


async def test_an_edit_shows_how_far_its_shards_have_come_and_never_less(tenant: EditClient) -> None:
    tenant.shards_of(1)
    edit_id = await tenant.request("shown")
    shown = []
    for _ in range(5):
        await tenant.run()
        edit = await tenant.edit(edit_id)
        assert edit["status"] == "running"
        shown.append((edit["progress"]["done"], edit["progress"]["stage"]))
    assert shown == [(percent, "collecting_factors") for percent in (5, 13, 22, 31, 40)]
    await tenant.run()
    assert (await tenant.edit(edit_id))["progress"]["done"] == 100


async def test_what_an_earlier_edit_left_is_not_collected_again(tenant: EditClient) -> None:
    """A sweep of more layers collects what is missing, and a later edit nothing."""
    tenant.shards_of(1)
    await tenant.request("first", layers=[0])
    assert len(await tenant.run(6)) == 6
    await tenant.request("more", layers=[0, 1])
    jobs = await tenant.run(6)
    assert jobs.count(COLLECT_FACTORS.name) == 4
    collected = "SELECT DISTINCT payload ->> 'projections' FROM jobs WHERE kind = 'collect_factors'"
    assert sorted(row[0].count("layers.0") for row in tenant.rows(collected)) == [0, 2]
    last = await tenant.request("nothing", layers=[1])
    assert await tenant.run() == [RUN_EDIT.name]
    receipt = (await tenant.edit(last))["receipt"]
    assert (receipt["parameters"]["factors_reused"], receipt["parameters"]["factors_collected"]) == (2, 0)


async def test_factors_come_to_the_device_of_their_weights(
    tenant: EditClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model whose second layer is elsewhere: where there are no numbers, so that no mean is taken."""

    def no_mean(sums: Sequence[Tensor], _tokens: Sequence[int], width: int) -> tuple[Tensor, None]:
        return sums[0].new_empty(width, width), None

    def devices(factors: dict[str, Factors]) -> list[tuple[str, str]]:
        return [(each.activations.device.type, each.gradients.device.type) for each in factors.values()]

    tenant.shards_of(1)
    await tenant.request("joined")
    await tenant.run(5)
    with tenant.runtime.sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="test", lease_seconds=60, loaded=[])
    assert lease is not None
    inputs = begin(tenant.runtime, lease)
    loaded = tenant.runtime.models.get(inputs.base, inputs.spec.dtype)
    spread = replace(loaded, model=copy.deepcopy(loaded.model))
    spread.model.model.layers[1].to("meta")
    projections = find_projections(spread.model, layers=[0, 1])
    key = FactorStore(tenant.runtime, inputs, spread).key
    with monkeypatch.context() as patch:
        patch.setattr(partial_sums, "mean_of_halves", no_mean)
        joined = joined_factors(tenant.runtime, inputs, key, projections, Untold())
    assert joined is not None
    assert devices(joined) == 2 * [("cpu", "cpu")] + 2 * [("meta", "meta")]

    run_job(tenant.runtime, lease, get_context("fork").Event())
    stored = FactorStore(tenant.runtime, inputs, spread)
    assert devices(stored.get(projections, Untold())) == devices(joined)
    assert stored.reused == 4


async def test_cancelling_ends_the_shards_and_forgets_their_sums(
    tenant: EditClient, settings: Settings
) -> None:
    tenant.shards_of(1)
    edit_id = await tenant.request("never")
    await tenant.run(3)
    assert (await tenant.http.delete(f"/v1/text-sets/{tenant.sets['calibration']}")).status_code == 409
    await tenant.post(f"/v1/edits/{edit_id}/cancel", {})
    states = "SELECT state, count(*) FROM jobs WHERE kind = 'collect_factors' GROUP BY 1 ORDER BY 1"
    assert tenant.rows(states) == [("cancelled", 2), ("succeeded", 2)]
    await remove_what_is_not_needed(settings)
    assert tenant.rows("SELECT count(*) FROM partial_factors") == [(0,)]
    assert tenant.rows("SELECT count(*) FROM blobs") == [(0,)]


async def test_a_shard_that_fails_fails_the_edit_with_its_problem(
    tenant: EditClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise StorageFull("The disk of the artifact store is full.")

    tenant.shards_of(1)
    edit_id = await tenant.request("never")
    await tenant.run(2)
    monkeypatch.setitem(HANDLERS, COLLECT_FACTORS.name, fail)
    await tenant.run()
    edit = await tenant.edit(edit_id)
    assert (edit["status"], edit["error"]["title"]) == ("failed", StorageFull.title)
    assert tenant.rows("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')") == [(0,)]


OF_A_SHARD = "FROM partial_factors AS sums WHERE chunks.sha256 = sums.sha256 AND shard = 1 RETURNING 1"
DAMAGES: Sequence[str] = (
    "UPDATE partial_factors SET key = 'another release' WHERE shard = 1 RETURNING 1",
    "DELETE FROM partial_factors WHERE shard = 1 RETURNING 1",
    f"UPDATE blob_chunks AS chunks SET data = '' {OF_A_SHARD}",
)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_sums_that_cannot_be_added_are_collected_again(tenant: EditClient, damage: str) -> None:
    """Of another release or device, gone, or damaged: the edit itself collects then, and gives the same."""
    tenant.shards_of(10**9)
    await tenant.request("alone")
    await tenant.run()
    alone = tenant.factors()
    tenant.shards_of(1)
    edit_id = await tenant.request("damaged")
    await tenant.run(5)
    assert tenant.rows(f"WITH damaged AS ({damage}) SELECT * FROM damaged")
    assert await tenant.run() == [RUN_EDIT.name]
    assert (await tenant.edit(edit_id))["status"] == "succeeded"
    assert tenant.factors() == alone


async def test_a_collection_of_less_than_two_shards_is_one_job(tenant: EditClient) -> None:
    bytes_of = "SELECT byte_count FROM text_sets WHERE name = 'calibration'"
    tenant.shards_of(tenant.rows(bytes_of)[0][0] // 2 + 1)
    await tenant.request("small")
    assert await tenant.run() == [RUN_EDIT.name]
    assert tenant.rows("SELECT state FROM jobs WHERE kind = 'run_edit'") == [("succeeded",)]
