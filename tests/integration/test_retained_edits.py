"""Edits that retain a text set, and edits whose mass is adapted: on real rows, with a real worker."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
import torch
from fastapi import FastAPI

from app.settings import Settings
from app.store.jobs.kinds import COLLECT_FACTORS, RUN_EDIT
from tests.http_api import settings_with_models
from tests.integration.edit_client import EditClient, edit_client
from tests.tiny_models import english_sentences
from workers.edits.methods import kfac_recovery
from workers.running.runtime import Runtime
from workers.science.curvature.kfac import collect_factors, eigenbases
from workers.science.curvature.recovery import Recovery, recovered
from workers.science.models.loading import load_language_model
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts, text_blocks
from workers.science.models.weight_edit import without_low_curvature

KEPT = {"keep_mass": 0.7}
SPLIT = {"prefix_tokens": 16, "suffix_tokens": 8}
LOOSE = {"max_perplexity_increase": 100.0}


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


@pytest.fixture
async def tenant(
    app: FastAPI, settings: Settings, runtime: Runtime, database: psycopg.Connection, tmp_path: Path
) -> Any:
    async with edit_client(app, settings, runtime, database, tmp_path) as client:
        sentences = [sentence[:120] for sentence in english_sentences()]
        await client.upload("retain", sentences[60:75])
        await client.upload("forget", sentences[80:84])
        yield client


async def succeeded(tenant: EditClient, name: str, jobs: int = 1, **fields: Any) -> dict[str, Any]:
    edit_id = await tenant.request(name, **fields)
    await tenant.run(jobs)
    edit = await tenant.edit(edit_id)
    assert edit["status"] == "succeeded", edit["error"]
    return edit


async def weights_of(tenant: EditClient, edit: dict[str, Any]) -> str:
    """The digest of the edited model's weights."""
    manifest = (await tenant.http.get(f"/v1/artifacts/{edit['artifact']}")).json()
    (digest,) = [file["sha256"] for file in manifest["files"] if file["path"] == "model.safetensors"]
    return str(digest)


async def test_no_weight_is_the_edit_without_and_all_of_it_that_of_the_retain_set(tenant: EditClient) -> None:
    """Bit for bit; and what lies between is neither."""
    retained = {"retain_text_set": tenant.sets["retain"], **KEPT}
    without = await succeeded(tenant, "without", **KEPT)
    none = await succeeded(tenant, "none", **retained, retain_weight=0)
    half = await succeeded(tenant, "half", **retained, retain_weight=0.5)
    full = await succeeded(tenant, "full", **retained, retain_weight=1)
    other = await succeeded(tenant, "other", **KEPT, calibration_text_set=tenant.sets["retain"])
    digests = [await weights_of(tenant, edit) for edit in (without, none, half, full, other)]
    assert digests[0] == digests[1]
    assert digests[3] == digests[4]
    assert len(set(digests)) == 3
    # Each text set is collected once, whatever it is to an edit.
    reused = [edit["receipt"]["parameters"] for edit in (without, none, half, full, other)]
    assert [each["factors_reused"] for each in reused] == [0, 4, 4, 4, 4]
    assert [each["retain_factors_reused"] for each in reused] == [None, 0, 4, 4, None]


async def test_a_receipt_tells_both_text_sets_apart_and_the_proof_measures_both(tenant: EditClient) -> None:
    edit = await succeeded(tenant, "told", retain_text_set=tenant.sets["retain"], **KEPT)
    other = await succeeded(tenant, "other", calibration_text_set=tenant.sets["retain"], **KEPT)
    receipt, alone = edit["receipt"], other["receipt"]
    assert edit["spec"]["retain_weight"] == receipt["parameters"]["retain_weight"] == 0.1
    assert receipt["parameters"]["retain_tokens"] == alone["parameters"]["calibration_tokens"]
    assert receipt["parameters"]["calibration_tokens"] > receipt["parameters"]["retain_tokens"]
    for matrix, same in zip(receipt["matrices"], alone["matrices"], strict=True):
        assert matrix["retain_convergence"] == same["convergence"] != matrix["convergence"]
        assert same["retain_convergence"] is None
    assert edit["text_sets"]["retain"] == receipt["text_sets"]["retain"]["id"] == tenant.sets["retain"]
    assert receipt["text_sets"]["retain"]["hmac_sha256"]
    assert edit["evaluation"]["sets"]["retain"]["texts"] == 15


async def test_shards_collect_the_calibration_set_and_the_edit_the_retain_set(tenant: EditClient) -> None:
    fields = {"retain_text_set": tenant.sets["retain"], "retain_weight": 0.3, **KEPT}
    tenant.shards_of(10**9)
    alone = await succeeded(tenant, "alone", **fields)
    tenant.factors()
    tenant.shards_of(1)
    edit_id = await tenant.request("shared", **fields)
    jobs = await tenant.run(6)
    assert jobs == [RUN_EDIT.name, *[COLLECT_FACTORS.name] * 4, RUN_EDIT.name]
    shared = await tenant.edit(edit_id)
    assert await weights_of(tenant, shared) == await weights_of(tenant, alone)
    for part in ("matrices", "parameters"):
        assert shared["receipt"][part] == alone["receipt"][part]


async def test_a_text_set_that_is_retained_cannot_go_before_the_edit_has_ended(tenant: EditClient) -> None:
    edit_id = await tenant.request("waiting", retain_text_set=tenant.sets["retain"], **KEPT)
    place = f"/v1/text-sets/{tenant.sets['retain']}"
    assert (await tenant.http.delete(place)).status_code == 409
    await tenant.post(f"/v1/edits/{edit_id}/cancel", {})
    assert (await tenant.http.delete(place)).status_code == 200


async def test_a_sweep_over_weights_says_what_the_retained_text_loses(tenant: EditClient) -> None:
    """The weights that are written are those of the chosen weight alone."""
    fields = {
        "retain_text_set": tenant.sets["retain"],
        "forget_text_set": tenant.sets["forget"],
        "evaluation": {"clean_text_set": tenant.sets["clean"], **SPLIT},
        "constraint": LOOSE,
    }
    sweep = {"retain_weight": [1, 0, 0.5], "keep_mass": [0.7, 0.9]}
    edit = await succeeded(tenant, "swept", sweep=sweep, **fields)
    points = edit["frontier"]
    settings = [(point["retain_weight"], point["keep_mass"]) for point in points]
    assert settings == [(weight, mass) for weight in (1, 0, 0.5) for mass in (0.7, 0.9)]
    assert len({point["nl_drop"] for point in points}) == 6
    (chosen,) = [point for point in points if point["chosen"]]
    alone = await succeeded(
        tenant,
        "alone",
        retain_text_set=tenant.sets["retain"],
        retain_weight=chosen["retain_weight"],
        keep_mass=chosen["keep_mass"],
    )
    assert await weights_of(tenant, edit) == await weights_of(tenant, alone)
    assert edit["receipt"]["parameters"]["retain_weight"] == chosen["retain_weight"]


async def test_recovery_is_that_of_the_science_and_a_sweep_takes_its_steps(tenant: EditClient) -> None:
    """Oracle: the same edit, made by the science alone in this process, from the same texts."""
    fields = {"retain_text_set": tenant.sets["retain"], "retain_weight": 0, "block_tokens": 32}
    recovery = {"steps": 4, "rank": 3, "learning_rate": 0.05}
    edit = await succeeded(tenant, "recovered", **fields, **KEPT, recovery=recovery, seed=7)
    found = await tenant.weights(edit)

    model = load_language_model(tenant.checkpoint)
    retained, ordinary = tenant.texts["retain"], tenant.texts["calibration"]
    projections = find_projections(model.model, layers=[0, 1])
    clean, kept = (
        collect_factors(
            model, pack_texts(model, texts, block_tokens=32), projections, labels="sampled", seed=7
        )
        for texts in (ordinary, retained)
    )
    bases = eigenbases(clean)
    edited = without_low_curvature(projections, bases, 0.7)
    directions = {
        key: torch.linalg.eigh(factors.activations.double()).eigenvectors[:, -3:]
        for key, factors in kept.items()
    }
    rows = [text_blocks(model, texts, max_tokens=32) for texts in (retained, ordinary)]
    expected = recovered(model, edited, rows, Recovery(4, 0.05, seed=7), directions=directions)
    for projection, weight in expected:
        torch.testing.assert_close(found[projection.parameter_name], weight, rtol=0, atol=1e-6)
    parameters = edit["receipt"]["parameters"]
    assert {name: parameters[f"recovery_{name}"] for name in recovery} == recovery

    swept = await succeeded(
        tenant,
        "swept",
        **fields,
        seed=7,
        forget_text_set=tenant.sets["forget"],
        sweep={"keep_mass": [0.7], "recovery_steps": [0, 4]},
        recovery=recovery,
        constraint=LOOSE,
        evaluation={"clean_text_set": tenant.sets["clean"], **SPLIT},
    )
    without, with_steps = swept["frontier"]
    assert [point["recovery_steps"] for point in swept["frontier"]] == [0, 4]
    assert with_steps["nl_drop"] != without["nl_drop"]
    same = await weights_of(tenant, swept) == await weights_of(tenant, edit)
    assert same == with_steps["chosen"] != without["chosen"]


async def test_what_a_search_has_trained_is_written_and_not_trained_again(
    tenant: EditClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One training for each setting; the weights are those of an edit with the chosen one alone."""
    trained = []

    def counted(*arguments: Any, **options: Any) -> Any:
        trained.append(recovered(*arguments, **options))
        return trained[-1]

    monkeypatch.setattr(kfac_recovery, "recovered", counted)
    fields = {"retain_text_set": tenant.sets["retain"], "recovery": {"steps": 2}}
    swept = await succeeded(
        tenant,
        "swept",
        **fields,
        forget_text_set=tenant.sets["forget"],
        sweep={"keep_mass": [0.7, 0.9]},
        constraint=LOOSE,
        evaluation={"clean_text_set": tenant.sets["clean"], **SPLIT},
    )
    assert len(trained) == 2
    (chosen,) = [point for point in swept["frontier"] if point["chosen"]]
    alone = await succeeded(tenant, "alone", **fields, keep_mass=chosen["keep_mass"])
    assert await weights_of(tenant, swept) == await weights_of(tenant, alone)


async def test_a_constraint_on_the_retained_text_decides_what_is_feasible(tenant: EditClient) -> None:
    """The tiny model is random: with nine tenths of the mass the text becomes less likely."""
    fields = {
        "retain_text_set": tenant.sets["retain"],
        "forget_text_set": tenant.sets["forget"],
        "evaluation": {"clean_text_set": tenant.sets["clean"], **SPLIT},
    }
    sweep = {"retain_weight": [1, 0, 0.5], "keep_mass": [0.7, 0.9]}
    none = LOOSE | {"max_nl_drop": 0}
    points = (await succeeded(tenant, "some", sweep=sweep, constraint=none, **fields))["frontier"]
    assert [point["feasible"] for point in points] == [point["nl_drop"] <= 0 for point in points]
    assert {point["feasible"] for point in points} == {True, False}
    assert all(point["feasible"] for point in points if point["chosen"])
    edit_id = await tenant.request("none", sweep=sweep | {"keep_mass": [0.9]}, constraint=none, **fields)
    await tenant.run()
    refused = await tenant.edit(edit_id)
    assert refused["error"]["title"] == "No feasible setting"
    assert "the retain set within 0 nats per token" in refused["error"]["detail"]
    assert [point["nl_drop"] > 0 for point in refused["frontier"]] == [True] * 3


async def test_without_a_mass_the_constraint_decides_and_nothing_is_aimed_at(tenant: EditClient) -> None:
    # Short texts after a token of their own: search and audit give every token the same context.
    await tenant.upload("short", [sentence[:50] for sentence in english_sentences()[50:60]])
    measured = {"evaluation": {"clean_text_set": tenant.sets["short"], "prefix_token": "eos"}}
    limit = {"max_perplexity_increase": 0.01}
    edit = await succeeded(tenant, "adapted", layers=[1], constraint=limit, **measured)
    points = edit["frontier"]
    assert points[0]["keep_mass"] == 0.6
    assert not points[0]["feasible"]
    assert points[1]["keep_mass"] == 0.999
    (chosen,) = [point for point in points if point["chosen"]]
    assert chosen["keep_mass"] == min(point["keep_mass"] for point in points if point["feasible"])
    assert chosen["perplexity_increase"] <= 0.01
    assert all(point["strict"] is None for point in points)
    assert edit["receipt"]["parameters"]["keep_mass"] == chosen["keep_mass"]
    # What was written is what was measured: the proof audits the files.
    assert edit["evaluation"]["sets"]["clean"]["perplexity"]["after"] == pytest.approx(chosen["perplexity"])
    paper = await succeeded(tenant, "of-the-paper", constraint=LOOSE)
    given = await succeeded(tenant, "given", keep_mass=0.6)
    assert len(paper["frontier"]) == 1
    assert given["frontier"] is None
    assert await weights_of(tenant, paper) == await weights_of(tenant, given)


async def test_too_little_text_is_warned_of_in_the_resource_and_the_receipt(tenant: EditClient) -> None:
    edit = await succeeded(tenant, "doubtful", calibration_tokens=50, constraint=LOOSE)
    assert edit["warnings"] == edit["receipt"]["warnings"]
    tokens = edit["receipt"]["parameters"]["calibration_tokens"]
    doubts = {warning["code"]: warning["detail"] for warning in edit["warnings"]}
    assert f" {tokens} tokens" in doubts["fewer_tokens_than_dimensions"]
    assert "clean_is_calibration" not in doubts
    judged = await succeeded(
        tenant, "judged-on-itself", evaluation={}, constraint=LOOSE, calibration_tokens=10_000
    )
    assert [warning["code"] for warning in judged["warnings"]][-1] == "clean_is_calibration"


async def test_what_cannot_keep_the_constraint_is_refused_and_says_why(tenant: EditClient) -> None:
    """With fewer tokens than dimensions even nearly all of the mass leaves directions out."""
    edit_id = await tenant.request(
        "refused", calibration_tokens=10, constraint={"max_perplexity_increase": 0.0}
    )
    await tenant.run()
    edit = await tenant.edit(edit_id)
    assert edit["status"] == "failed"
    assert edit["error"]["type"].endswith("/no-feasible-setting")
    assert edit["error"]["status"] == 422
    assert [point["keep_mass"] for point in edit["frontier"]] == [0.6, 0.999]
    assert edit["warnings"][0]["code"] == "fewer_tokens_than_dimensions"
    assert edit["warnings"][0]["detail"] in edit["error"]["detail"]
    assert edit["receipt"] is None
