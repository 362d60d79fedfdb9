"""What stands before texts, as models and audits say it. Oracle: the scorer itself, in this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import Deploy, Deployment
from tests.live_service import fresh_key
from tests.tiny_models import BEGINNING_OF_TEXT, END_OF_TEXT, one_thread, save_tiny_model
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts

BOS, EOS = 1, 0
TEXTS = [
    {"id": "plain", "text": "The quick brown fox jumps over the lazy dog. " * 6},
    {"id": "special", "text": f"One{END_OF_TEXT} two {BEGINNING_OF_TEXT} three"},
    {"id": "letter", "text": "x"},
]
# By checkpoint and choice: what it comes to.
MEANINGS: dict[tuple[str, str | int], tuple[list[int], str]] = {
    ("without", "auto"): ([EOS], "first_token"),
    ("without", "eos"): ([EOS], "all"),
    ("unused", "auto"): ([BOS], "first_token"),
    ("unused", "bos_else_eos"): ([BOS], "all"),
    ("unused", "none"): ([], "nothing"),
    ("added", "auto"): ([BOS], "all"),
    ("added", 7): ([7], "all"),
}


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoint: Path) -> dict[str, Path]:
    root = tiny_checkpoint.parent
    return {
        "without": save_tiny_model(root / "without-bos"),
        "unused": save_tiny_model(root / "unused-bos", bos=True, adds_bos=False),
        "added": save_tiny_model(root / "added-bos", bos=True),
    }


@pytest.fixture(scope="module")
def deployment(module_deploy: Deploy) -> Deployment:
    """A service without a worker."""
    return module_deploy()


@pytest.fixture(scope="module")
def text_set(deployment: Deployment) -> str:
    return deployment.service.upload(TEXTS)


@pytest.fixture(scope="module")
def old_audit(deployment: Deployment, checkpoints: dict[str, Path], text_set: str) -> str:
    """An audit that a release without prefix tokens accepted and no worker has touched."""
    audit = deployment.service.audit({"type": "path", "path": str(checkpoints["unused"])}, text_set)
    deployment.rows(
        "UPDATE audits SET spec = spec #- '{options,prefix_token}' #- '{options,special_tokens}' "
        f"WHERE id = '{audit.removeprefix('aud_')}' RETURNING 1"
    )
    return audit


@pytest.fixture(scope="module")
def early_audit(deployment: Deployment, checkpoints: dict[str, Path], text_set: str) -> str:
    """An audit accepted before its language model's tokenizer was known."""
    source = {"type": "path", "path": str(checkpoints["without"])}
    return deployment.service.audit(source, text_set, options={"prefix_token": "bos"})


def edit_request(text_set: str, choice: str | int) -> dict[str, Any]:
    return {
        "method": "kfac",
        "name": "edited",
        "calibration_text_set": text_set,
        "evaluation": {"prefix_token": choice},
    }


@pytest.fixture(scope="module")
def early_edit(deployment: Deployment, checkpoints: dict[str, Path], text_set: str) -> str:
    """The same for an edit."""
    body = edit_request(text_set, 384) | {"model": {"type": "path", "path": str(checkpoints["without"])}}
    response = deployment.service.client.post("/v1/edits", json=body, headers=fresh_key())
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


@pytest.fixture(scope="module")
def models(
    deployment: Deployment, checkpoints: dict[str, Path], old_audit: str, early_audit: str, early_edit: str
) -> dict[str, dict[str, Any]]:
    deployment.service.start_worker()
    return {
        name: deployment.service.model(deployment.service.register(path))
        for name, path in checkpoints.items()
    }


@pytest.fixture(scope="module")
def loaded(checkpoints: dict[str, Path]) -> Iterator[dict[str, LanguageModel]]:
    with one_thread():
        yield {name: load_language_model(path, device="cpu") for name, path in checkpoints.items()}


def scored_here(language_model: LanguageModel, **options: Any) -> list[tuple[int, float | None, str | None]]:
    scores = score_texts(
        language_model, [TextInput(text["text"]) for text in TEXTS], ScoringOptions(frozenset(), **options)
    )
    return [(score.n_tokens, score.nl and pytest.approx(score.nl, abs=1e-5), score.error) for score in scores]


def scored_there(deployment: Deployment, audit: str) -> list[tuple[int, float | None, str | None]]:
    return [(row["n_tokens"], row["nl"], row["error"]) for row in deployment.service.scores(audit)]


def test_a_model_says_what_its_tokenizer_puts_before_texts(models: dict[str, dict[str, Any]]) -> None:
    assert {name: model["tokenizer"] for name, model in models.items()} == {
        "without": {"bos_token_id": None, "eos_token_id": EOS, "prefix_token_ids": []},
        "unused": {"bos_token_id": BOS, "eos_token_id": EOS, "prefix_token_ids": []},
        "added": {"bos_token_id": BOS, "eos_token_id": EOS, "prefix_token_ids": [BOS]},
    }


def test_an_audit_says_what_stood_before_its_texts(
    deployment: Deployment,
    models: dict[str, dict[str, Any]],
    loaded: dict[str, LanguageModel],
    text_set: str,
    subtests: pytest.Subtests,
) -> None:
    for (name, choice), (ids, conditions) in MEANINGS.items():
        with subtests.test(name=name, choice=choice):
            audit = deployment.service.audit(
                models[name]["id"], text_set, options={"prefix_token": choice, "token_evidence": False}
            )
            assert deployment.service.read(audit)["options"]["prefix_token"] == choice
            ended = deployment.service.end_of(audit)
            assert ended["status"] == "succeeded", ended
            assert ended["prefix_token"] == {"ids": ids, "conditions": conditions}
            assert scored_there(deployment, audit) == scored_here(loaded[name], prefix_token=choice)


def test_a_first_token_that_is_not_scored_has_no_numbers(
    deployment: Deployment, models: dict[str, dict[str, Any]], text_set: str
) -> None:
    audit = deployment.service.audit(models["unused"]["id"], text_set, options={"prefix_token": "none"})
    assert deployment.service.end_of(audit)["status"] == "succeeded"
    path = f"/v1/audits/{audit}/scores/plain/tokens"
    first, *others = deployment.service.client.get(path).json()["tokens"]
    assert first["text"] == "The"
    assert (first["log_likelihood"], first["rank"], first["matched"]) == (None, None, None)
    assert all(token["rank"] >= 1 and token["log_likelihood"] < 0 for token in others)
    rows = {row["text_id"]: row for row in deployment.service.scores(audit)}
    assert rows["letter"]["error"] == "only_first_token"
    assert rows["plain"]["n_tokens"] == len(others)
    assert rows["plain"]["nl"] == pytest.approx(
        sum(token["log_likelihood"] for token in others) / len(others)
    )


def test_special_tokens_are_control_or_text(
    deployment: Deployment, models: dict[str, dict[str, Any]], loaded: dict[str, LanguageModel]
) -> None:
    found = {}
    for special_tokens in ("control", "text"):
        options = {"special_tokens": special_tokens}
        body = {"model": models["added"]["id"], "texts": TEXTS, "options": options, "timeout": 60}
        response = deployment.service.client.post("/v1/score", json=body)
        assert response.status_code == 200, response.text
        found[special_tokens] = [
            (row["n_tokens"], row["nl"], row["error"]) for row in response.json()["data"]
        ]
        assert found[special_tokens] == scored_here(loaded["added"], **options)
        audit = deployment.service.read(response.json()["audit"])
        assert audit["options"]["special_tokens"] == special_tokens
    assert found["control"][1][0] < found["text"][1][0]
    assert found["control"][0] == found["text"][0]


@pytest.mark.parametrize(
    ("choice", "code"), [("bos", "no_bos_token"), (384, "prefix_token_outside_vocabulary")]
)
def test_a_prefix_token_that_a_model_lacks_is_refused(
    deployment: Deployment, models: dict[str, dict[str, Any]], text_set: str, choice: str | int, code: str
) -> None:
    asked = {"model": models["without"]["id"]}
    options = {"options": {"prefix_token": choice}}
    for path, body, pointer in (
        ("/v1/audits", asked | options | {"text_set": text_set}, "/options/prefix_token"),
        ("/v1/score", asked | options | {"texts": TEXTS}, "/options/prefix_token"),
        ("/v1/edits", asked | edit_request(text_set, choice), "/evaluation/prefix_token"),
    ):
        before = deployment.rows("SELECT count(*) FROM text_sets")
        response = deployment.service.client.post(path, json=body, headers=fresh_key())
        assert response.status_code == 422
        assert response.json()["errors"] == [{"pointer": pointer, "code": code}]
        assert deployment.rows("SELECT count(*) FROM text_sets") == before


def test_work_accepted_before_its_model_was_known_fails_by_name(
    deployment: Deployment, models: dict[str, dict[str, Any]], early_audit: str, early_edit: str
) -> None:
    audit = deployment.service.end_of(early_audit)
    response = deployment.service.client.get(f"/v1/edits/{early_edit}", params={"wait": 60})
    for failed in (audit, response.json()):
        assert failed["status"] == "failed"
        assert failed["error"]["type"].endswith("/no-such-prefix-token")
        assert failed["error"]["status"] == 422
    assert "no BOS token" in audit["error"]["detail"]
    assert "outside the vocabulary" in response.json()["error"]["detail"]


def test_an_audit_of_an_earlier_release_is_scored_and_shown_as_it_was_meant(
    deployment: Deployment,
    models: dict[str, dict[str, Any]],
    loaded: dict[str, LanguageModel],
    old_audit: str,
) -> None:
    ended = deployment.service.end_of(old_audit)
    assert ended["status"] == "succeeded"
    assert (ended["options"]["prefix_token"], ended["options"]["special_tokens"]) == (
        "bos_else_eos",
        "control",
    )
    assert ended["prefix_token"] == {"ids": [BOS], "conditions": "all"}
    assert scored_there(deployment, old_audit) == scored_here(loaded["unused"], prefix_token="bos_else_eos")
