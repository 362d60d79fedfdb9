"""`memaudit audit` and `pull` against a running service: results, exit statuses, refusals in plain words."""

import csv
import json
import os
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import pytest
from typer.testing import Result

from app.embedded.supervisor import SERVICE_FILE
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine, sync_sessions
from memaudit import Client
from tests.artifacts import make_artifact
from tests.command_line import invoke
from tests.integration.rows import add_ready_model
from tests.servers import RunningService, memaudit_up, temporary_home
from tests.tiny_models import save_tiny_model
from workers.science.models.description import describe_checkpoint

SECRET_TEXT = "xylophone quartz 7731"
TEXTS = [
    {"id": "a", "text": "The quick brown fox jumps over the lazy dog.", "group": "pangram", "duplicates": 0},
    {"id": "b", "text": "Pack my box with five dozen jugs.", "group": "pangram", "duplicates": 4},
    {"id": "c", "text": "Sphinx of black quartz, judge my vow.", "group": "pangram", "duplicates": 4},
    {"id": "d", "text": "It was a dark and stormy night.", "group": "opening"},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_tiny_model(root / "tiny")
    save_tiny_model(root / "next", seed=1)
    (root / "hollow").mkdir()
    return root


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[RunningService]:
    environment = os.environ | {"MEMAUDIT_MODEL_ROOTS": str(models), "HF_HUB_OFFLINE": "1"}
    with temporary_home() as home, memaudit_up(home, environment=environment) as running:
        yield running


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    return path


def read(service: RunningService, path: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {service.key}"}
    return dict(httpx.get(f"{service.url}{path}", headers=headers).json())


def database_url(service: RunningService) -> str:
    variables = shlex.split((service.home / SERVICE_FILE).read_text())
    return dict(variable.split("=", 1) for variable in variables)["MEMAUDIT_DATABASE_URL"]


def test_a_pulled_artifact_as_json(service: RunningService, models: Path, tmp_path: Path) -> None:
    artifact = make_artifact(database_url(service), models / "tiny", name="pulled", tenant="default")
    artifact_id = format_id(Prefix.ARTIFACT, artifact.id)
    done = memaudit(service, "pull", artifact_id, tmp_path / "pulled", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == read(service, f"/v1/artifacts/{artifact_id}")
    for path in (models / "tiny").iterdir():
        assert (tmp_path / "pulled" / path.name).read_bytes() == path.read_bytes()


def audit(
    service: RunningService, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return memaudit(service, "audit", *arguments, **variables)


def memaudit(
    service: RunningService, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as the owner of the service, who is found by the data directory alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEMAUDIT_")} | {
        "MEMAUDIT_HOME": str(service.home),
        "COLUMNS": "100",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_table_shows_the_means_of_the_exported_scores(
    service: RunningService, models: Path, texts: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.csv"
    done = audit(service, "--model", models / "tiny", "--texts", texts, "--csv", scores)
    assert done.returncode == 0, done.stderr

    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["text_id"] for row in rows] == ["a", "b", "c", "d"]
    by_level = defaultdict(list)
    for row in rows:
        by_level[row["group"], row["duplicates"]].append(float(row["nl"]))
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    means = {(cells[0], cells[1]): (cells[2], *cells[3].split(" [")) for cells in shown if len(cells) == 5}
    answer = read(service, "/v1/audits")["data"][0]  # the newest
    intervals = {
        (
            level["group"],
            str(level["duplicates"] or 0),
        ): f"{level['nl']['low']:.2f}, {level['nl']['high']:.2f}]"
        for level in answer["summary"]["levels"]
        if level["nl"]["n"] > 1
    }
    assert len(intervals) == 1
    assert means == {
        level: (str(len(nl)), f"{fmean(nl):.2f}", *([intervals[level]] if level in intervals else []))
        for level, nl in by_level.items()
    }
    assert [cells[4] for cells in shown if len(cells) == 5] == [
        f"{level['strict']['share']:.2f} [{level['strict']['low']:.2f}, {level['strict']['high']:.2f}]"
        for level in answer["summary"]["levels"]
    ]


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(
    service: RunningService, models: Path, texts: Path
) -> None:
    before = [read(service, path)["data"] for path in ("/v1/audits", "/v1/text-sets")]
    done = audit(service, "--model", models / "tiny", "--texts", texts, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["object"], answer["texts"], answer["jobs"]) == ("estimate", 4, 3)
    shown = audit(service, "--model", models / "tiny", "--texts", texts, "--dry-run")
    assert f"4 texts, {answer['tokens']} tokens" in shown.stdout
    assert [read(service, path)["data"] for path in ("/v1/audits", "/v1/text-sets")] == before


def test_json_is_the_audit_of_the_service_and_alone_on_stdout(
    service: RunningService, models: Path, texts: Path
) -> None:
    done = audit(service, "--model", models / "tiny", "--texts", texts, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["progress"] == {"done": 4, "total": 4, "unit": "texts"}
    assert answer == read(service, f"/v1/audits/{answer['id']}")
    assert f"the directory {models / 'tiny'}" in done.stderr
    failed = audit(service, "--model", models / "hollow", "--texts", texts, "--json")
    assert (failed.returncode, json.loads(failed.stdout)["status"]) == (1, "failed")


def test_control_texts_and_what_they_show(
    service: RunningService, models: Path, texts: Path, tmp_path: Path
) -> None:
    control = tmp_path / "control.jsonl"
    control.write_text(json.dumps({"text": "A wizard's job is to vex chumps quickly in fog."}) + "\n")
    done = audit(service, "--model", models / "tiny", "--texts", texts, "--control", control)
    assert done.returncode == 0, done.stderr
    assert "0 memorized, 0 not shown, 4 uncalibrated (too few controls)" in " ".join(done.stdout.split())


def test_a_language_model_by_its_id(service: RunningService, models: Path, texts: Path) -> None:
    path = str(models / "tiny")
    (model, *_) = [row for row in read(service, "/v1/models")["data"] if row["source"].get("path") == path]
    done = audit(service, "--model", model["id"], "--texts", texts, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == model["id"]
    assert f"the language model {model['id']}" in done.stderr
    absent = audit(service, "--model", f"mdl_{'0' * 32}", "--texts", texts)
    assert (absent.returncode, "no such language model" in absent.stderr) == (1, True)


def test_an_edited_model_by_its_name_else_a_hub_repository(
    service: RunningService, models: Path, texts: Path
) -> None:
    """Which of the two is said before the texts are sent, so that refused texts spare the hub here."""
    artifact = make_artifact(database_url(service), models / "tiny", name="edited", tenant="default")
    engine = sync_engine(database_url(service))
    with sync_sessions(engine).begin() as session:
        edited = add_ready_model(session, artifact.tenant_id)
        edited.source = {"type": "artifact", "artifact": format_id(Prefix.ARTIFACT, artifact.id)}
        edited.digest = describe_checkpoint(models / "tiny").digest
        model_id = format_id(Prefix.LANGUAGE_MODEL, edited.id)
    engine.dispose()
    done = audit(service, "--model", "default/edited", "--texts", texts, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == model_id
    assert f"{model_id}, which this service edited and calls default/edited" in done.stderr
    texts.write_text("{}")
    for name in ("default/absent", "default/edited@main"):
        other = audit(service, "--model", name, "--texts", texts)
        assert other.returncode == 1
        assert f"the hub repository {name}" in other.stderr


def test_what_stands_before_texts_can_be_chosen(service: RunningService, models: Path, texts: Path) -> None:
    chosen = ("--prefix-token", "7", "--special-tokens", "text", "--json")
    done = audit(service, "--model", models / "tiny", "--texts", texts, *chosen)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["options"]["prefix_token"], answer["options"]["special_tokens"]) == (7, "text")
    assert answer["prefix_token"] == {"ids": [7], "conditions": "all"}
    wrong = audit(service, "--model", models / "tiny", "--texts", texts, "--prefix-token", "BOS")
    assert wrong.returncode == 2
    assert "no such prefix token: BOS" in wrong.stderr


def test_a_rejected_checkpoint_fails_the_audit(service: RunningService, models: Path, texts: Path) -> None:
    failed = audit(service, "--model", models / "hollow", "--texts", texts)
    assert failed.returncode == 1
    assert "the audit failed: " in failed.stderr


def test_a_preset_that_cannot_be_fetched_fails_the_audit_in_plain_words(
    service: RunningService, models: Path, texts: Path
) -> None:
    failed = audit(service, "--model", models / "tiny", "--preset", "hubble/wikipedia")
    assert failed.returncode == 1
    assert "HF_HUB_OFFLINE" in failed.stderr
    both = audit(service, "--model", models / "tiny", "--preset", "hubble/wikipedia", "--texts", texts)
    assert both.returncode == 2


def test_a_path_outside_the_roots_is_refused_in_plain_words(
    service: RunningService, tmp_path: Path, texts: Path
) -> None:
    refused = audit(service, "--model", tmp_path, "--texts", texts)
    assert refused.returncode == 1
    assert "MEMAUDIT_MODEL_ROOTS" in refused.stderr


def test_a_broken_line_is_pointed_at_and_never_echoed(
    service: RunningService, models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(TEXTS[0]) + "\n" + json.dumps({"text": SECRET_TEXT, "duplicates": -1}) + "\n")
    refused = audit(service, "--model", models / "tiny", "--texts", path)
    assert refused.returncode == 1
    assert "/duplicates: greater_than_equal" in refused.stderr
    assert SECRET_TEXT not in refused.stdout + refused.stderr


def test_an_unknown_key_is_refused(service: RunningService, models: Path, texts: Path) -> None:
    refused = audit(service, "--model", models / "tiny", "--texts", texts, MEMAUDIT_API_KEY="mak_wrong")
    assert refused.returncode == 1
    assert "Unauthorized" in refused.stderr


def gate(service: RunningService, *arguments: str | Path) -> Result:
    return here(service, "gate", *arguments)


def here(service: RunningService, *arguments: str | Path) -> Result:
    """A command in this process, as the owner of the service."""
    environment = {"MEMAUDIT_HOME": str(service.home), "MEMAUDIT_URL": service.url, "COLUMNS": "200"}
    return invoke(*arguments, environment=environment)


@pytest.fixture(scope="module")
def sampled(service: RunningService, models: Path) -> str:
    """An audit of a suffix of one token, which comes up somewhere in a million samples; not waited for."""
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}) as client:
        texts = client.post("/v1/text-sets", json={"name": "four", "texts": TEXTS}).json()["id"]
        body = {
            "model": {"type": "path", "path": str(models / "tiny")},
            "text_set": texts,
            "metrics": ["extraction", "p_z"],
            "options": {"prefix_tokens": 4, "suffix_tokens": 1, "top_k": 1_000_000},
        }
        answer = client.post("/v1/audits", json=body, headers={"Idempotency-Key": "sampled"})
        return str(answer.json()["id"])


LIKELY = {"kind": "probabilistic_extraction", "probability": 0.5, "samples": 1_000_000}


@pytest.mark.parametrize(
    ("rules", "status", "outcome"),
    [
        ([{"kind": "rate", "metric": "strict", "at_most": 0.995}], 0, "pass"),
        ([LIKELY], 1, "fail"),
        ([{"kind": "no_memorized_text"}], 2, "inconclusive"),
    ],
)
def test_a_gate_exits_with_what_it_decides(
    service: RunningService, sampled: str, tmp_path: Path, rules: list[Any], status: int, outcome: str
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": outcome, "rules": rules}))
    done = gate(service, "--policy", policy, "--audit", sampled, "--json")
    assert done.exit_code == status, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["outcome"], answer["policy_version"]) == (outcome, 1)
    assert answer == read(service, f"/v1/gates/{answer['id']}")
    if outcome == "fail":
        assert set(answer["rules"][0]["deciding_texts"]) == {text["id"] for text in TEXTS}
        shown = gate(service, "--policy", policy, "--audit", sampled)
        words = " ".join(shown.stdout.split())
        assert (shown.exit_code, f"fail: fail version 1 on {sampled}" in words) == (1, True)


def test_a_gate_that_decides_nothing_is_exit_status_4(service: RunningService, sampled: str) -> None:
    shipped = gate(service, "--template", "verbatim-strict", "--audit", sampled)
    assert (shipped.exit_code, "too few" in shipped.stdout) == (2, True)
    for arguments, words in (
        (["--bogus"], "No such option"),
        (["--template", "edit-acceptance", "--audit", sampled], "texts_of_an_edit"),
        (["--policy", "no such file", "--audit", sampled], "nor a readable JSON file"),
    ):
        done = gate(service, *arguments)
        assert (done.exit_code, words in " ".join(done.stderr.split())) == (4, True), done.stderr


def test_a_release_exits_with_what_its_gates_decide(service: RunningService, models: Path) -> None:
    """The first version recites little; the second is compared without controls, which decides nothing."""
    with Client(service.url, service.key) as client:
        rules = ({"kind": "rate", "metric": "strict", "at_most": 0.995}, {"kind": "no_newly_memorized"})
        little, nothing_new = (client.policies.create(name="ours", rules=[rule]).id for rule in rules)
        check = {
            "text_set": client.text_sets.create(name="four", texts=TEXTS).id,
            "metrics": ["nl", "extraction"],
            "options": {"prefix_tokens": 4, "suffix_tokens": 1},
            "policies": [little],
            "study_policies": [nothing_new],
        }
        client.model_lines.create(name="chat", checks=[check])
        named = ("release", "--line", "chat", "--json")
        first = here(service, *named, "--label", "1.0", "--model", models / "tiny")
        assert first.exit_code == 0, first.stderr
        released = json.loads(first.stdout)
        assert (released["status"], released["outcome"], released["label"]) == ("succeeded", "pass", "1.0")
        assert released == read(service, f"/v1/model-versions/{released['id']}")
        again = here(service, "release", "--line", "chat", "--label", "1.1", "--model", models / "next")
        assert again.exit_code == 2, again.stderr
        words = " ".join(again.stdout.split())
        assert "inconclusive: 1.1 (ver_" in words
        (second, _) = client.model_lines.versions(next(client.model_lines.list(name="chat")).id)
        diff = client.model_versions.diff(second.id)
        nl = [
            [score.nl for score in client.audits.scores(version.checks[0].audit)]
            for version in (client.model_versions.get(released["id"]), second)
        ]
        difference = diff.checks[0].comparison.levels[0].difference
        assert difference.mean == pytest.approx(fmean(b - a for a, b in zip(*nl, strict=True)))
    for arguments, words in (
        (("--line", "other", "--label", "1", "--model", models / "tiny"), "no model line other"),
        (("--line", "chat", "--label", "1.1", "--model", models / "tiny"), "label taken"),
        (("--line", "chat", "--label", "2", "--model", models / "hollow"), "the version failed: The audit"),
        (("--bogus",), "No such option"),
    ):
        done = here(service, "release", *arguments)
        assert (done.exit_code, words in " ".join(done.stderr.split())) == (4, True), done.stderr
