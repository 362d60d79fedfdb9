"""Language models that an edit is compared with: what is refused, what is kept, what it takes and says.

Oracle of the numbers: audits of the reference model by the ordinary path.
"""

import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.settings import Settings
from app.store.language_models import LanguageModelStatus
from tests.http_api import client_of, make_key, settings_with_models
from tests.integration.edit_client import SCOPES, EditClient, edit_client
from tests.tiny_models import english_sentences, save_tiny_model, train_tokenizer
from workers.running.runtime import Runtime
from workers.science.statistics.ranking import roc_auc

SPLIT = {"prefix_tokens": 16, "suffix_tokens": 8}
KEPT = {"keep_mass": 0.7}
POINTER = "/evaluation/reference_model"


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


@pytest.fixture
async def tenant(
    app: FastAPI, settings: Settings, runtime: Runtime, database: psycopg.Connection, tmp_path: Path
) -> Any:
    async with edit_client(app, settings, runtime, database, tmp_path) as client:
        sentences = [sentence[:120] for sentence in english_sentences() if len(sentence) >= 120]
        await client.upload("memorized", sentences[80:86])
        await client.upload("control", sentences[90:97])
        yield client


async def register(tenant: EditClient, directory: Path, *, validated: bool = True) -> str:
    body = {"source": {"type": "path", "path": str(directory)}}
    model = str((await tenant.post("/v1/models", body))["id"])
    if validated:
        await tenant.run()
    return model


def evaluation(tenant: EditClient, reference: str, **fields: Any) -> dict[str, Any]:
    return {
        "memorized_text_set": tenant.sets["memorized"],
        "control_text_set": tenant.sets["control"],
        "clean_text_set": tenant.sets["clean"],
        "reference_model": reference,
        **SPLIT,
        **fields,
    }


def edit_of(tenant: EditClient, reference: str, model: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "model": model or tenant.model,
        "name": "compared",
        "method": "kfac",
        "layers": [0, 1],
        "block_tokens": 32,
        "calibration_text_set": tenant.sets["calibration"],
        **KEPT,
        "evaluation": evaluation(tenant, reference, **fields),
    }


async def refusal(tenant: EditClient, body: dict[str, Any]) -> tuple[int, str, list[dict[str, str]]]:
    """How a request is refused: alike when it is only estimated, and without any trace."""
    key = {"Idempotency-Key": uuid4().hex}
    answers: list[httpx.Response] = [
        await tenant.http.post("/v1/edits", json=body, headers=key),
        await tenant.http.post("/v1/edits", json=body, params={"dry_run": True}),
    ]
    said = [(each.status_code, each.json()["type"], each.json().get("errors", [])) for each in answers]
    assert said[0] == said[1]
    assert (await tenant.http.get("/v1/edits")).json()["data"] == []
    status, problem, errors = said[0]
    return status, problem.rsplit("/", 1)[-1], errors


def wrong(code: str) -> tuple[int, str, list[dict[str, str]]]:
    return 422, "validation-failed", [{"pointer": POINTER, "code": code}]


async def test_what_cannot_be_compared_with_is_refused(
    tenant: EditClient, app: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    async with client_of(app, make_key(settings, tenant="other", scopes=SCOPES)) as http:
        other = EditClient(http, tenant.runtime, None)  # type: ignore[arg-type] - it reads no rows
        of_another = await register(other, save_tiny_model(tmp_path / "others", seed=5))
    for unknown in (f"mdl_{'0' * 32}", "mdl_", tenant.sets["clean"], of_another):
        assert (await refusal(tenant, edit_of(tenant, unknown)))[:2] == (404, "not-found")
    assert await refusal(tenant, edit_of(tenant, tenant.model)) == wrong("same_as_model")
    copy = await register(tenant, Path(shutil.copytree(tmp_path / "model", tmp_path / "copy")))
    assert await refusal(tenant, edit_of(tenant, copy)) == wrong("same_as_model")
    begins_texts = await register(tenant, save_tiny_model(tmp_path / "bos", bos=True))
    assert await refusal(tenant, edit_of(tenant, begins_texts)) == wrong("other_tokenizer")
    found = await refusal(tenant, edit_of(tenant, tenant.model, model=begins_texts, prefix_token="bos"))
    assert found == wrong("no_bos_token")
    queued = await register(tenant, save_tiny_model(tmp_path / "queued", seed=6), validated=False)
    assert (await refusal(tenant, edit_of(tenant, queued)))[:2] == (409, "language-model-not-ready")
    status = LanguageModelStatus.REJECTED
    tenant.rows(f"UPDATE language_models SET status = '{status}' WHERE status = 'queued' RETURNING 1")
    assert (await refusal(tenant, edit_of(tenant, queued)))[0] == 409


async def test_nothing_that_an_edit_is_compared_with_is_deleted_before_it_ends(
    tenant: EditClient, tmp_path: Path
) -> None:
    reference = await register(tenant, save_tiny_model(tmp_path / "reference", seed=1))
    edit = await tenant.post("/v1/edits", edit_of(tenant, reference))
    for model in (reference, tenant.model):
        assert (await tenant.http.delete(f"/v1/models/{model}")).status_code == 409
    await tenant.http.post(f"/v1/edits/{edit['id']}/cancel")
    for model in (reference, tenant.model):
        assert (await tenant.http.delete(f"/v1/models/{model}")).status_code == 204
    assert (await tenant.edit(edit["id"]))["spec"]["evaluation"]["reference_model"] == reference


async def test_a_reference_that_turns_out_to_be_the_base_is_named_before_anything_is_edited(
    tenant: EditClient, tmp_path: Path
) -> None:
    """The base is validated after the request, which could not know."""
    model = await register(
        tenant, Path(shutil.copytree(tmp_path / "model", tmp_path / "copy")), validated=False
    )
    edit = await tenant.post("/v1/edits", edit_of(tenant, tenant.model, model=model))
    await tenant.run(2)
    ended = await tenant.edit(edit["id"])
    assert (ended["status"], ended["error"]["type"].rsplit("/", 1)[-1]) == ("failed", "reference-is-same")
    assert tenant.factors() == []


async def test_a_reference_that_makes_other_tokens_fails_the_edit_before_anything_is_edited(
    tenant: EditClient, tmp_path: Path
) -> None:
    """Tokens that begin and end texts are the same, so that only the texts show it."""
    directory = save_tiny_model(tmp_path / "reference", seed=1)
    train_tokenizer(300).save_pretrained(directory)
    reference = await register(tenant, directory)
    edit = await tenant.post("/v1/edits", edit_of(tenant, reference))
    await tenant.run()
    ended = await tenant.edit(edit["id"])
    assert (ended["status"], ended["error"]["type"].rsplit("/", 1)[-1]) == ("failed", "edit-failed")
    assert "other tokens" in ended["error"]["detail"]
    assert tenant.factors() == []


async def losses(tenant: EditClient, model: str, text_set: str) -> list[float]:
    audit = await tenant.post("/v1/audits", {"model": model, "text_set": text_set, "metrics": ["nl"]})
    await tenant.run(3)  # its plan, its shard, its summary
    rows = (await tenant.http.get(f"/v1/audits/{audit['id']}/scores")).json()["data"]
    return [row["nl"] for row in rows]


@pytest.mark.parametrize("stress", [False, True])
async def test_the_numbers_of_a_reference_stand_beside_those_of_the_edit(
    tenant: EditClient, tmp_path: Path, stress: bool
) -> None:
    reference = await register(tenant, save_tiny_model(tmp_path / "reference", seed=1))
    edit = await tenant.post("/v1/edits", edit_of(tenant, reference, stress=stress))
    await tenant.run()
    ended = await tenant.edit(edit["id"])
    assert ended["status"] == "succeeded", ended["error"]
    registered = (await tenant.http.get(f"/v1/models/{reference}")).json()
    found = ended["evaluation"]
    assert found["reference"] == {"model": reference, "digest": registered["digest"]}
    expected = roc_auc(
        *[await losses(tenant, reference, tenant.sets[role]) for role in ("memorized", "control")]
    )
    assert expected is not None
    assert found["membership"]["memorized"]["loss"]["reference"]["auc"] == expected.auc
    assert (found["proof"] is not None) == stress
    if stress:
        assert found["proof"]["held"]["memorized"]["extraction_strength"]["reference"]["n"] == 6


async def test_a_reference_takes_memory_beside_the_others_and_a_pass_through_the_texts(
    tenant: EditClient, tmp_path: Path
) -> None:
    reference = await register(tenant, save_tiny_model(tmp_path / "reference", seed=1))
    size = (await tenant.http.get(f"/v1/models/{reference}")).json()["parameter_count"]

    async def estimated(body: dict[str, Any]) -> dict[str, Any]:
        answer = await tenant.http.post("/v1/edits", json=body, params={"dry_run": True})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    compared = edit_of(tenant, reference)
    alone = compared | {
        "evaluation": {k: v for k, v in compared["evaluation"].items() if k != "reference_model"}
    }
    beside, without = await estimated(compared), await estimated(alone)
    assert beside["memory"]["weights_bytes"] - without["memory"]["weights_bytes"] == 4 * size
    tested = [each["tokens"] for each in beside["companions"] if each["role"] in {"memorized", "control"}]
    assert len(tested) == 2
    # Tokens are those of either set, not yet counted; they are rounded apart.
    assert beside["forward_tokens"] - without["forward_tokens"] == pytest.approx(sum(tested), abs=1)
