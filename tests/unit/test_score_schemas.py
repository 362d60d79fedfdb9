"""The metrics of a score row as the API shows them: all that the science writes, each field explained."""

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel

from app.audits.score_schemas import ScoreOut
from app.contracts.metrics import registry as contracts
from app.contracts.metrics.extraction import ExtractionScore
from app.contracts.metrics.fields import ALWAYS, MetricName
from app.contracts.metrics.near_verbatim import NearVerbatimScore
from app.contracts.metrics.sampling import SamplingScore
from app.contracts.metrics.splits import SplitStatus
from app.contracts.metrics.verbatim import VerbatimScore
from app.contracts.metrics.windows import WindowsScore
from app.contracts.results.studies import StudyResult
from app.contracts.results.summary import AuditSummary, _Totals
from app.main import create_app
from app.settings import Settings
from workers.science.measurements.near_verbatim import near_verbatim_result
from workers.science.measurements.registry import MEASUREMENTS
from workers.science.metrics import splits
from workers.science.metrics.extraction import extraction_metric
from workers.science.metrics.registry import METRICS
from workers.science.metrics.sampling import sampling_metric
from workers.science.metrics.splits import NOT_APPLICABLE, Split
from workers.science.metrics.verbatim import verbatim_metric
from workers.science.passages.near_verbatim import NearVerbatim

SPLITS = (Split("ok", 3, 4), Split("scaled", 1, 4), NOT_APPLICABLE)
SUFFIX = np.array([1, 2, 3, 4])


def measured(split: Split) -> list[tuple[type[BaseModel], dict[str, Any]]]:
    suffix = SUFFIX[: split.suffix_tokens]
    return [
        (ExtractionScore, extraction_metric(split, 2, np.array([1, 2, 9, 4]), suffix)),
        (ExtractionScore, extraction_metric(split, 2, None, suffix)),
        (VerbatimScore, verbatim_metric(split, 2)),
        (SamplingScore, sampling_metric(split, -1.5)),
        (SamplingScore, sampling_metric(split, -800.0)),
        (SamplingScore, sampling_metric(split, -math.inf)),
        (NearVerbatimScore, near_verbatim_result(split, NearVerbatim(2, -1.5, -math.inf))),
        (NearVerbatimScore, near_verbatim_result(split, None)),
    ]


@pytest.mark.parametrize("split", SPLITS, ids=[split.status for split in SPLITS])
def test_what_the_science_writes_is_shown_whole(split: Split) -> None:
    for schema, metric in measured(split):
        shown = schema.model_validate(metric).model_dump()
        assert shown.items() >= metric.items()
        assert all(shown[name] is None for name in shown.keys() - metric.keys())


def test_the_statuses_are_those_of_the_science() -> None:
    assert get_args(SplitStatus) == get_args(splits.SplitStatus)


def test_the_metrics_are_those_of_the_science() -> None:
    """Each metric that the service names is found, and what it promises of a summary is made."""
    science = {**METRICS, **MEASUREMENTS}
    assert len(science) == len(METRICS) + len(MEASUREMENTS)
    assert science.keys() == contracts.METRICS.keys()
    assert get_args(MetricName) == (ALWAYS, *contracts.METRICS)
    for name, metric in science.items():
        assert metric.name == name == contracts.METRICS[name].name
        makers = (metric.summary, getattr(metric, "labelled", None))
        made = [each for each in makers if each is not None]
        assert len(made) == (contracts.METRICS[name].summary is not None)


def test_no_two_metrics_add_the_same_field_to_a_summary() -> None:
    names = [number.name for metric in contracts.METRICS.values() for number in metric.numbers]
    names += [metric.summary.name for metric in contracts.METRICS.values() if metric.summary]
    names += [*_Totals.model_fields, "levels", "dose_response", "gain"]
    names += ["calibration", "reference_difference", "dose_fits", "extraction_onset"]
    assert sorted(names) == sorted(AuditSummary.model_fields)


def test_metrics_and_summaries_need_no_torch() -> None:
    """A worker that has none makes summaries."""
    modules = (
        "workers.science.metrics.registry, workers.science.measurements.registry, "
        "workers.science.statistics.perplexity"
    )
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def referenced(schema: Any) -> Iterator[str]:
    """The names of the schemas that one is made of."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from referenced(part)


@pytest.fixture(scope="module")
def schemas() -> Any:
    return create_app(Settings()).openapi()["components"]["schemas"]


def test_every_field_of_a_result_is_described(schemas: Any) -> None:
    open_names = [model.__name__ for model in (ScoreOut, AuditSummary, StudyResult)]
    seen: set[str] = set()
    silent = []
    while open_names:
        name = open_names.pop()
        if name in seen:
            continue
        seen.add(name)
        open_names += referenced(schemas[name])
        fields = schemas[name].get("properties", {})
        silent += [f"{name}.{field}" for field in fields if not fields[field].get("description")]
    assert silent == []
    assert {"MembershipScore", "WindowsSummary", "HalfLife"} <= seen


def test_no_field_of_a_score_is_a_free_object_and_each_null_is_explained(schemas: Any) -> None:
    for model in (ScoreOut, ExtractionScore, VerbatimScore, SamplingScore, NearVerbatimScore, WindowsScore):
        for name, field in schemas[model.__name__]["properties"].items():
            assert field.get("additionalProperties") is not True, (model, name)
            options = field.get("anyOf", [])
            assert {"type": "object", "additionalProperties": True} not in options, (model, name)
            if {"type": "null"} in options:
                assert "null" in field["description"].lower(), (model, name)
