"""`memaudit audit` against a running service: result, files, exit statuses, refusals in plain words."""

import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from tests.servers import RunningService, memaudit_up, temporary_home
from tests.tiny_models import save_tiny_model

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
    (root / "hollow").mkdir()
    return root


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[RunningService]:
    environment = os.environ | {"MEMAUDIT_MODEL_ROOTS": str(models)}
    with temporary_home() as home, memaudit_up(home, environment=environment) as running:
        yield running


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    return path


def audit(
    service: RunningService, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `memaudit audit` as the owner of the service, who is found by the data directory alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEMAUDIT_")} | {
        "MEMAUDIT_HOME": str(service.home),
        "COLUMNS": "100",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "audit", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_table_shows_the_means_of_the_exported_scores(
    service: RunningService, models: Path, texts: Path, tmp_path: Path
) -> None:
    scores, whole = tmp_path / "scores.csv", tmp_path / "audit.json"
    done = audit(service, "--model", models / "tiny", "--texts", texts, "--csv", scores, "--json", whole)
    assert done.returncode == 0, done.stderr

    with scores.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["text_id"] for row in rows] == ["a", "b", "c", "d"]
    by_level = defaultdict(list)
    for row in rows:
        by_level[row["group"], row["duplicates"]].append(float(row["nl"]))
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    means = {(cells[0], cells[1]): (cells[2], cells[3]) for cells in shown if len(cells) == 5}
    assert means == {level: (str(len(nl)), f"{fmean(nl):.2f}") for level, nl in by_level.items()}

    answer = json.loads(whole.read_text())
    assert answer["status"] == "succeeded"
    assert answer["progress"] == {"done": 4, "total": 4, "unit": "texts"}


def test_what_stands_before_texts_can_be_chosen(
    service: RunningService, models: Path, texts: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "audit.json"
    chosen = ("--prefix-token", "7", "--special-tokens", "text", "--json", whole)
    done = audit(service, "--model", models / "tiny", "--texts", texts, *chosen)
    assert done.returncode == 0, done.stderr
    answer = json.loads(whole.read_text())
    assert (answer["options"]["prefix_token"], answer["options"]["special_tokens"]) == (7, "text")
    assert answer["prefix_token"] == {"ids": [7], "conditions": "all"}
    wrong = audit(service, "--model", models / "tiny", "--texts", texts, "--prefix-token", "BOS")
    assert wrong.returncode == 2
    assert "no such prefix token: BOS" in wrong.stderr


def test_a_rejected_checkpoint_fails_the_audit(service: RunningService, models: Path, texts: Path) -> None:
    failed = audit(service, "--model", models / "hollow", "--texts", texts)
    assert failed.returncode == 1
    assert "the audit failed: " in failed.stderr


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
