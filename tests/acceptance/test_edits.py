"""Edits against a live service: what is proved is what is served, and nothing is left of what did not end."""

import hashlib
import io
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import torch
from huggingface_hub import snapshot_download
from lxml import etree
from transformers import AutoModelForCausalLM

from tests.deployments import Deploy, Deployment
from tests.edit_requests import SPLIT, end_of, kfac_request, request, succeeded, upload_sets
from tests.live_service import LiveService, fresh_key
from tests.tiny_models import EDITABLE_ARCHITECTURES, save_tiny_model
from workers.science.curvature.kfac import collect_factors, eigenbases
from workers.science.curvature.spectrum import select_top_mass
from workers.science.models.loading import load_language_model
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts
from workers.science.models.weight_edit import project, replaced

TOKENS = torch.arange(5, 45)[None]


@pytest.fixture(scope="module")
def deployment(module_deploy: Deploy) -> Deployment:
    deployment = module_deploy(lease_seconds=4.0)
    deployment.service.start_worker()
    return deployment


@pytest.fixture(scope="module")
def service(deployment: Deployment) -> LiveService:
    return deployment.service


@pytest.fixture(scope="module")
def sets(service: LiveService, sentences: list[str]) -> dict[str, str]:
    return upload_sets(service, sentences)


def loaded_over_http(service: LiveService, repository: str, cache: Path) -> Any:
    directory = snapshot_download(
        repository, endpoint=service.url, token=service.key, cache_dir=cache, local_files_only=False
    )
    return AutoModelForCausalLM.from_pretrained(directory).eval()


@torch.inference_mode()
def logits_of(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=TOKENS).logits
    return logits


@pytest.fixture(scope="module")
def base(service: LiveService, reciting_checkpoint: Path) -> str:
    return service.register(reciting_checkpoint)


@pytest.fixture(scope="module")
def edited(service: LiveService, base: str, sets: dict[str, str]) -> dict[str, Any]:
    limits = {"max_strict": 0.8, "max_perplexity_increase": 5.0, "min_ndcg": 0.2}
    body = kfac_request(base, sets, "forgetful", keep_mass=0.6)
    return succeeded(service, body | {"evaluation": body["evaluation"] | {"limits": limits, "stress": True}})


def test_an_edit_recites_less_and_says_so(edited: dict[str, Any]) -> None:
    measured = edited["evaluation"]["sets"]
    assert set(measured) == {"memorized", "unseen", "control", "clean"}
    for role in ("memorized", "unseen"):
        strict, nl = measured[role]["strict"], measured[role]["nl"]
        assert strict["before"]["share"] > 0.5
        assert strict["after"]["share"] < 0.5 * strict["before"]["share"]
        assert strict["after"]["low"] <= strict["after"]["share"] < strict["after"]["high"]
        assert nl["after"]["mean"] < nl["before"]["mean"]
    assert 0 < edited["evaluation"]["ndcg"]["mean"] < 1
    assert set(edited["evaluation"]["stress"]) >= {"prefix_shifted", "int8", "bfloat16", "fine_tuned"}
    checks = {check["name"]: check["outcome"] for check in edited["evaluation"]["verdict"]["checks"]}
    assert len(checks) == 4
    assert checks["max_strict:memorized"] == "pass"
    assert edited["progress"] == {"done": 100, "total": 100, "unit": "percent", "stage": None}
    matrices = edited["receipt"]["matrices"]
    assert len(matrices) == 4
    assert all(0.6 <= matrix["kept_mass"] < 0.61 for matrix in matrices)
    for matrix in matrices:
        pairs = {point["mass"]: point["pairs"] for point in matrix["spectrum"]}
        assert pairs[0.6] == matrix["kept_pairs"]
        assert sorted(pairs.values()) == list(pairs.values())


def test_what_an_edit_took_is_what_the_next_is_said_to_take(
    service: LiveService, edited: dict[str, Any], base: str, sets: dict[str, str]
) -> None:
    """Tokens are those of the audits of its proof; the factors that it left are not foreseen."""
    body = kfac_request(base, sets, "not-made")
    body["evaluation"] |= {"stress": True}
    answer = service.client.post("/v1/edits", params={"dry_run": True}, json=body)
    assert answer.status_code == 200, answer.text
    estimate = answer.json()
    (worker,) = estimate["by_worker_class"]
    assert (worker["basis"], worker["fits"], estimate["jobs"]) == ("measured", True, 1)
    assert 0.2 < worker["seconds"] / edited["receipt"]["wall_seconds"] < 5


def test_the_proof_rests_on_audits_that_anyone_can_repeat(
    service: LiveService, edited: dict[str, Any], sets: dict[str, str]
) -> None:
    """Oracle: audits through the ordinary path give the very numbers of the edit's own."""
    for when, model in (("before", edited["model"]), ("after", edited["edited_model"])):
        proof = edited["evaluation"]["sets"]["unseen"]["audits"][when]
        options = {**SPLIT, "token_evidence": False}
        again = service.audit(model, sets["unseen"], metrics=["nl", "extraction"], options=options)
        assert service.end_of(again)["status"] == "succeeded"
        assert service.scores(proof) == service.scores(again)
        assert service.read(proof)["summary"] == service.read(again)["summary"]
        for field in ("digests", "options", "prefix_token"):
            assert service.read(proof)[field] == service.read(again)[field]


def test_lineage_is_a_chain_and_factors_are_collected_once(
    service: LiveService, edited: dict[str, Any], sets: dict[str, str]
) -> None:
    assert edited["receipt"]["parameters"]["factors_collected"] == 4
    narrower = kfac_request(edited["model"], sets, "narrower", keep_mass=0.8, layers=[1])
    again = succeeded(service, narrower)
    assert again["receipt"]["parameters"]["factors_reused"] == 2
    assert again["receipt"]["parameters"]["factors_collected"] == 0
    chained = succeeded(service, kfac_request(edited["edited_model"], sets, "chained", keep_mass=0.9))
    second = service.model(chained["edited_model"])
    first = service.model(second["base_model"])
    assert (first["id"], first["base_model"]) == (edited["edited_model"], edited["model"])
    assert first["status"] == second["status"] == "ready"
    lineage = [(one["model"], one["source"], one["name"]) for one in chained["receipt"]["lineage"]]
    assert lineage == [
        (edited["edited_model"], "artifact", edited["model_repo"]),
        (edited["model"], "path", "reciting"),
    ]
    card = service.client.get(f"/v1/artifacts/{chained['artifact']}/files/README.md").text
    assert f"Derived from `{edited['model_repo']}` at revision `{first['revision']}`" in card
    assert "That was derived from `reciting`." in card


def test_a_damaged_factor_is_collected_again_and_kept(
    deployment: Deployment, base: str, sets: dict[str, str]
) -> None:
    """What is stored may have other bits than those that are collected now: the new ones replace it."""
    service = deployment.service
    succeeded(service, kfac_request(base, sets, "first", seed=11))
    damaged = "0" * 64
    deployment.rows(
        f"INSERT INTO blobs SELECT '{damaged}', size, chunk_bytes, location, created_at, last_put_at, "
        "written_at FROM blobs WHERE size > 0 LIMIT 1 RETURNING 1"
    )
    newest = "SELECT max(id::text)::uuid FROM factors"
    deployment.rows(f"UPDATE factors SET sha256 = '{damaged}' WHERE id = ({newest}) RETURNING 1")
    for name, collected in (("second", 1), ("third", 0)):
        facts = succeeded(service, kfac_request(base, sets, name, seed=11, keep_mass=0.8))["receipt"][
            "parameters"
        ]
        assert (facts["factors_collected"], facts["factors_reused"]) == (collected, 4 - collected)


def test_the_artifact_is_whole_and_explains_itself(
    service: LiveService, edited: dict[str, Any], reciting_checkpoint: Path
) -> None:
    manifest = service.client.get(f"/v1/artifacts/{edited['artifact']}").json()
    files = {file["path"]: file for file in manifest["files"]}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "receipt.json"} <= set(files)
    for path, file in files.items():
        content = service.client.get(f"/v1/artifacts/{edited['artifact']}/files/{path}").content
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    card = service.client.get(f"/v1/artifacts/{edited['artifact']}/files/README.md").text
    assert f"Derived from `{reciting_checkpoint.name}` by memaudit" in card
    assert os.fspath(reciting_checkpoint.parent) not in card
    assert "resurface" in card
    receipt = service.client.get(f"/v1/artifacts/{edited['artifact']}/files/receipt.json").json()
    for part in ("matrices", "parameters", "warnings"):
        assert receipt[part] == edited["receipt"][part]
    assert edited["warnings"]
    assert all(warning["detail"] in card for warning in edited["warnings"])


def test_the_card_shows_figures_that_lie_beside_it(service: LiveService, edited: dict[str, Any]) -> None:
    """Oracles: another reader of XML, and the hub's client and tar as other ways to the same bytes."""
    artifact = f"/v1/artifacts/{edited['artifact']}"
    card = service.client.get(f"{artifact}/files/README.md").text
    shown = {path: words for words, path in re.findall(r"^!\[(.+)\]\((.+)\)$", card, re.MULTILINE)}
    listed = [file["path"] for file in service.client.get(artifact).json()["files"]]
    names = ("before-after-strict", "before-after-nl", "spectrum")
    assert sorted(shown) == sorted(f"figures/{name}.svg" for name in names)
    assert set(shown) == {path for path in listed if path.startswith("figures/")}
    packed = io.BytesIO(service.client.get(f"{artifact}/archive.tar").content)
    with tarfile.open(fileobj=packed) as archive:
        for path, words in shown.items():
            answer = service.client.get(f"{artifact}/files/{path}")
            assert answer.headers["content-type"] == "image/svg+xml"
            root = etree.fromstring(answer.content)
            assert (etree.QName(root).localname, root.get("aria-label")) == ("svg", words)
            over_hub = service.client.get(f"/{edited['model_repo']}/resolve/main/{path}")
            member = archive.extractfile(path)
            assert member is not None
            assert over_hub.content == member.read() == answer.content
    # What a language model is, is its weights and what they are read with.
    files = service.model(edited["edited_model"])["files"]
    assert not set(files) & {*shown, "README.md"}


@pytest.mark.parametrize("method", ["svd", "balanced_subnet"])
def test_the_baselines_give_edited_models_too(
    service: LiveService, base: str, sets: dict[str, str], method: str
) -> None:
    body = kfac_request(base, sets, f"by-{method.replace('_', '-')}") | {"method": method}
    del body["block_tokens"]
    if method == "svd":
        del body["layers"]  # the paper's, at this depth
    else:
        options = {"ratio": 0.05, "epochs": 2}
        body |= {"forget_text_set": sets["seen"], "balanced_subnet": options}
    edit = succeeded(service, body)
    if method == "svd":
        ranks = {(matrix["layer"], matrix["role"]): matrix["rank"] for matrix in edit["receipt"]["matrices"]}
        assert ranks == {(1, "gate"): 16, (1, "up"): 1, (1, "down"): 1}  # of 32
    assert edit["evaluation"]["sets"]["memorized"]["nl"]["after"]["mean"] != pytest.approx(
        edit["evaluation"]["sets"]["memorized"]["nl"]["before"]["mean"], abs=1e-6
    )


def test_a_search_writes_its_best_feasible_setting(
    service: LiveService, base: str, sets: dict[str, str]
) -> None:
    sweep = {"layers": [[1], [0, 1]], "keep_mass": [0.3, 0.9]}
    body = kfac_request(base, sets, "searched", forget_text_set=sets["seen"], sweep=sweep)
    edit = succeeded(service, body | {"constraint": {"max_perplexity_increase": 2.0}})
    points = edit["frontier"]
    assert len(points) == 4
    (chosen,) = [point for point in points if point["chosen"]]
    feasible = [point for point in points if point["feasible"]]
    assert chosen["strict"] == min(point["strict"] for point in feasible)
    assert edit["receipt"]["parameters"]["keep_mass"] == chosen["keep_mass"]
    assert {matrix["layer"] for matrix in edit["receipt"]["matrices"]} == set(chosen["layers"])
    nothing = body | {"name": "infeasible", "constraint": {"max_perplexity_increase": 0.0}}
    nothing["sweep"] = {"keep_mass": [0.01]}
    nothing["evaluation"] = body["evaluation"] | {"clean_text_set": sets["seen"]}
    failed = end_of(service, request(service, nothing))
    assert failed["status"] == "failed"
    assert failed["error"]["type"].endswith("/no-feasible-setting")
    (point,) = failed["frontier"]
    assert not point["feasible"]
    assert not point["chosen"]
    assert failed["artifact"] is None


@pytest.mark.usefixtures("any_hub")
@pytest.mark.parametrize("architecture", EDITABLE_ARCHITECTURES)
def test_an_edit_of_any_architecture_loads_back_over_http(
    service: LiveService,
    sets: dict[str, str],
    sentences: list[str],
    tiny_checkpoint: Path,
    tmp_path: Path,
    architecture: str,
) -> None:
    """Oracle: the same edit, made by the science alone in this process."""
    directory = save_tiny_model(tiny_checkpoint.parent / f"edit-{architecture}", architecture)
    body = kfac_request(service.register(directory), sets, f"of-{architecture}", keep_mass=0.5, layers=[1])
    edit = succeeded(service, body | {"evaluation": {"clean_text_set": sets["clean"]}})
    served = logits_of(loaded_over_http(service, edit["model_repo"], tmp_path))

    language_model = load_language_model(directory)
    projections = find_projections(language_model.model, layers=[1])
    blocks = pack_texts(language_model, sentences[300:360], block_tokens=64)
    bases = eigenbases(collect_factors(language_model, blocks, projections, labels="sampled", seed=0))
    weights = []
    for projection in projections:
        basis = bases[projection.key]
        kept = select_top_mass(basis.output_values, basis.input_values, 0.5)
        weights.append((projection, project(projection.weight, basis, kept)))
    before = logits_of(language_model.model)
    with replaced(weights):
        expected = logits_of(language_model.model)
    assert (served - expected).abs().max() <= 1e-6 * max(1.0, float(expected.abs().max()))
    assert (served - before).abs().max() > 1e-3


def test_a_full_database_fails_the_edit_and_a_retry_succeeds(
    deployment: Deployment, base: str, sets: dict[str, str]
) -> None:
    """Postgres itself raises its own error for a full disk, at the first chunk of the artifact."""
    service = deployment.service
    body = kfac_request(base, sets, "full", keep_mass=0.7)
    with psycopg.connect(deployment.postgres.url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON blob_chunks FOR EACH ROW EXECUTE FUNCTION no_room()"
        )
        try:
            failed = end_of(service, request(service, body))
        finally:
            connection.execute("DROP TRIGGER full_disk ON blob_chunks")
    assert failed["status"] == "failed"
    assert failed["error"]["type"].endswith("/storage-full")
    assert failed["artifact"] is None
    assert succeeded(service, body)["artifact"] is not None


def test_a_name_is_used_once(service: LiveService, edited: dict[str, Any], sets: dict[str, str]) -> None:
    body = kfac_request(edited["model"], sets, edited["name"])
    response = service.client.post("/v1/edits", json=body, headers=fresh_key())
    assert response.status_code == httpx.codes.CONFLICT
    assert response.json()["type"].endswith("/artifact-name-taken")


def test_an_unsupported_layer_is_named(service: LiveService, base: str, sets: dict[str, str]) -> None:
    edit = end_of(service, request(service, kfac_request(base, sets, "nowhere", layers=[7])))
    assert edit["status"] == "failed"
    assert edit["error"]["type"].endswith("/edit-failed")
    assert "0" in edit["error"]["detail"]
    assert "1" in edit["error"]["detail"]
    assert os.fspath(Path.home()) not in edit["error"]["detail"]
