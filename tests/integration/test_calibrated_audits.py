"""Audits with control texts and a reference model, from the request to the verdicts, on tiny checkpoints."""

import asyncio
import csv
import io
import shutil
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from scipy import stats

from app.settings import Settings
from tests.tiny_models import english_sentences, save_reciting_model, save_tiny_model
from workers.running.loop import run_jobs_until_idle
from workers.running.runtime import Runtime

SENTENCES = [each for each in dict.fromkeys(english_sentences()) if 150 < len(each) < 400][:66]
RECITED = SENTENCES[0:48:8]
# Every second sentence is a control, so that audited texts and controls are of one kind.
AUDITED, CONTROLS = SENTENCES[::2], SENTENCES[1::2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a language model that recites some of the audited texts, and one that does not."""
    directory = tmp_path_factory.mktemp("models")
    save_reciting_model(directory / "reciting", RECITED)
    save_tiny_model(directory / "reference")
    return directory


@pytest.fixture
def settings(database_url: str, broker_url: str, models: Path, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url, broker_url=broker_url, model_roots=str(models), home=tmp_path / "home"
    )


async def upload(client: httpx.AsyncClient, texts: list[str], **facts: list[Any]) -> str:
    columns = {"text": texts, **facts}
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    response = await client.post("/v1/text-sets", json={"name": "set", "texts": records})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def source(models: Path, name: str) -> dict[str, str]:
    return {"type": "path", "path": str(models / name)}


async def request(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/audits", json=body, headers={"Idempotency-Key": uuid4().hex})


async def audited(client: httpx.AsyncClient, runtime: Runtime, **body: Any) -> dict[str, Any]:
    """An audit that a worker has run with all that it waits for."""
    response = await request(client, **body)
    assert response.status_code == 202, response.text
    await asyncio.to_thread(run_all, runtime)
    audit: dict[str, Any] = (await client.get(f"/v1/audits/{response.json()['id']}")).json()
    assert audit["status"] == "succeeded", audit["error"]
    return audit


def run_all(runtime: Runtime) -> None:
    stopping = get_context("fork").Event()
    run_jobs_until_idle(runtime, stopping, queue="gpu", ring_for_others=lambda *_: None)


async def scores_of(client: httpx.AsyncClient, audit_id: str) -> list[dict[str, Any]]:
    response = await client.get(f"/v1/audits/{audit_id}/scores", params={"limit": 1000})
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


async def nl_of(client: httpx.AsyncClient, audit_id: str) -> np.ndarray:
    return np.array([row["nl"] for row in await scores_of(client, audit_id)])


async def test_texts_are_judged_by_controls_and_a_reference_model(
    client: httpx.AsyncClient, runtime: Runtime, models: Path
) -> None:
    """The oracle counts the controls at or above each text itself, and takes SciPy's q-values."""
    duplicates = [64 if text in RECITED else 0 for text in AUDITED]
    text_set = await upload(client, AUDITED, duplicates=duplicates)
    control_set = await upload(client, [*CONTROLS, AUDITED[1]])
    audit = await audited(
        client,
        runtime,
        model=source(models, "reciting"),
        text_set=text_set,
        reference_model=source(models, "reference"),
        control_text_set=control_set,
        options={"fdr": 0.3, "seed": 7},
    )
    assert audit["control_text_set"] == control_set
    companions = audit["companions"]
    for role, texts in (
        ("control", control_set),
        ("reference", text_set),
        ("reference_control", control_set),
    ):
        companion = (await client.get(f"/v1/audits/{companions[role]}")).json()
        assert (companion["status"], companion["text_set"]) == ("succeeded", texts)
        assert companion["model"] == audit["model" if role == "control" else "reference_model"]
        assert companion["companions"] is None
        assert companion["options"] == audit["options"]

    rows = await scores_of(client, audit["id"])
    difference = np.array([row["nl"] for row in rows]) - await nl_of(client, companions["reference"])
    control = await nl_of(client, companions["control"]) - await nl_of(
        client, companions["reference_control"]
    )
    found = audit["summary"]["calibration"]
    assert (found["reason"], found["strata"], found["statistic"]) == (None, 1, "reference"), found
    assert (found["controls_among_texts"], found["n_controls"]) == (1, len(CONTROLS))
    control = control[: len(CONTROLS)]  # the last is an audited text
    above = (control[None, :] >= difference[:, None]).sum(axis=1)
    p_values = (1 + above) / (len(control) + 1)
    q_values = stats.false_discovery_control(p_values, method="bh")
    assert [row["p_value"] for row in rows] == pytest.approx(p_values)
    assert [row["q_value"] for row in rows] == pytest.approx(q_values)
    verdicts = ["memorized" if q <= 0.3 else "not_shown" for q in q_values]
    assert [row["verdict"] for row in rows] == verdicts
    recited = [row["verdict"] for row, text in zip(rows, AUDITED, strict=True) if text in RECITED]
    assert recited == ["memorized"] * len(RECITED)
    counts = {verdict: verdicts.count(verdict) for verdict in ("memorized", "not_shown", "uncalibrated")}
    assert (found["verdicts"], found["fdr"], found["seed"]) == (counts, 0.3, 7)
    assert found["effect"]["mean"] == pytest.approx(difference.mean() - control.mean())

    paired = audit["summary"]["reference_difference"]
    assert paired["difference"]["mean"] == pytest.approx(difference.mean())
    by_level = {each["duplicates"]: each["difference"]["mean"] for each in paired["by_duplicates"]}
    known = np.array(duplicates)
    assert by_level == pytest.approx({level: difference[known == level].mean() for level in (0, 64)})

    exported = await client.get(f"/v1/audits/{audit['id']}/scores", headers={"Accept": "text/csv"})
    cells = list(csv.DictReader(io.StringIO(exported.text, newline="")))
    assert [cell["verdict"] for cell in cells] == verdicts
    assert [float(cell["q_value"]) for cell in cells] == [row["q_value"] for row in rows]


async def test_without_controls_there_is_no_verdict(
    client: httpx.AsyncClient, runtime: Runtime, models: Path
) -> None:
    audit = await audited(
        client,
        runtime,
        model=source(models, "reciting"),
        text_set=await upload(client, [*AUDITED[:8], ""]),
        reference_model=source(models, "reference"),
    )
    assert audit["control_text_set"] is None
    assert audit["companions"]["control"] is audit["companions"]["reference_control"] is None
    assert audit["summary"]["calibration"] is None
    assert audit["summary"]["reference_difference"]["difference"]["n"] == 8
    rows = await scores_of(client, audit["id"])
    assert [row["verdict"] for row in rows] == ["uncalibrated"] * 8 + [None]
    assert {row["p_value"] for row in rows} == {row["q_value"] for row in rows} == {None}


async def test_a_reference_that_turns_out_to_be_the_model_is_named(
    client: httpx.AsyncClient, runtime: Runtime, models: Path
) -> None:
    """Two copies of a checkpoint are told to be the same once they are validated."""
    shutil.copytree(models / "reference", models / "copy")
    body = {
        "model": source(models, "reference"),
        "reference_model": source(models, "copy"),
        "text_set": await upload(client, AUDITED[:2]),
    }
    accepted = await request(client, **body)
    assert accepted.status_code == 202
    await asyncio.to_thread(run_all, runtime)
    audit = (await client.get(f"/v1/audits/{accepted.json()['id']}")).json()
    assert (audit["status"], audit["error"]["type"].rsplit("/", 1)[-1]) == ("failed", "reference-is-same")
    refused = await request(client, **body)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": "/reference_model", "code": "same_as_model"}]


async def test_nothing_is_compared_with_itself(client: httpx.AsyncClient, models: Path) -> None:
    text_set, again = await upload(client, AUDITED), await upload(client, AUDITED)
    model = source(models, "reference")
    for field, value, code in (
        ("control_text_set", text_set, "same_as_text_set"),
        ("control_text_set", again, "same_as_text_set"),
        ("reference_model", model, "same_as_model"),
    ):
        response = await request(client, model=model, text_set=text_set, **{field: value})
        assert response.status_code == 422
        assert response.json()["errors"] == [{"pointer": f"/{field}", "code": code}]
    for field, value, status in (
        ("control_text_set", f"txs_{'0' * 32}", 404),
        ("reference_model", f"mdl_{'0' * 32}", 404),
        ("reference_model", {"type": "path", "path": "/elsewhere"}, 422),
    ):
        response = await request(client, model=model, text_set=text_set, **{field: value})
        assert response.status_code == status
        if status == 422:
            assert response.json()["errors"] == [
                {"pointer": "/reference_model/path", "code": "path_not_allowed"}
            ]
    assert (await client.get("/v1/audits")).json()["data"] == []
