"""A metric that is added to both registries is all there: requested, scored, listed, exported, summed up."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_models import save_tiny_model
from tests.toy_metric import NAME, TEXTS


@pytest.fixture
def found(database_url: str, broker_url: str, tmp_path: Path) -> dict[str, Any]:
    """What the service showed, in a process that had registered the metric before it was built."""
    checkpoint = save_tiny_model(tmp_path / "checkpoint")
    arguments = [database_url, broker_url, str(tmp_path), str(checkpoint)]
    subprocess.run([sys.executable, "-m", "tests.toy_metric", *arguments], check=True, timeout=120)
    return dict(json.loads((tmp_path / "found.json").read_text()))


def test_a_metric_needs_no_more_than_its_registration(found: dict[str, Any]) -> None:
    """The oracle of its numbers is the token evidence of the same texts."""
    least = [min(token["log_likelihood"] for token in tokens) for tokens in found["tokens"]]
    expected = [
        {"log_likelihood": pytest.approx(number), "ends_well": tokens[-1]["matched"]}
        for number, tokens in zip(least, found["tokens"], strict=True)
    ]
    scores = {score["text_id"]: score for score in found["scores"]}
    assert [scores[str(text["id"])][NAME] for text in TEXTS] == [*expected, None]
    assert {score["extraction"] for score in found["scores"]} == {None}

    exported = {row["text_id"]: row for row in csv.DictReader(io.StringIO(found["csv"]))}
    assert [json.loads(exported[str(text["id"])][NAME]) for text in TEXTS[:-1]] == expected
    assert exported["empty"][NAME] == ""

    assert found["audit"]["status"] == "succeeded"
    assert found["audit"]["metrics"] == [NAME]
    summary = found["audit"]["summary"]
    assert summary["weakest_log_likelihood"]["mean"] == pytest.approx(np.mean(least))
    ends_well = sum(tokens[-1]["matched"] for tokens in found["tokens"])
    assert (summary["ends_well"]["count"], summary["ends_well"]["n"]) == (ends_well, 3)
    assert summary[NAME] == {"least": pytest.approx(min(least))}
    (unseen, inserted) = summary["levels"]
    assert unseen["weakest_log_likelihood"]["mean"] == pytest.approx(least[0])
    assert inserted["weakest_log_likelihood"]["mean"] == pytest.approx(np.mean(least[1:]))

    schemas = found["openapi"]
    assert NAME in schemas["AuditCreate"]["properties"]["metrics"]["items"]["enum"]
    assert {"WeakestScore", "WeakestSummary"} <= schemas.keys()
    fields = list(schemas["ScoreOut"]["properties"])
    assert fields[fields.index("paraphrase") + 1] == NAME
