"""The figures beside an edited model: those that there are of the edit, whole, and never at its cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
import vl_convert
from lxml import etree

from app.contracts.texts import TextSetRole
from app.edits.schemas import EditOut
from tests.drawing_child import fail
from tests.evidence_records import edit_record
from tests.unit.test_edit_documents import HUB, inputs_of
from tests.unit.test_plots import levels, matrix, points
from workers.edits.evaluation import Readings, Scored
from workers.edits.figures import write_figures
from workers.edits.inputs import EditInputs
from workers.edits.scores import ScoreFile

ALL = (
    "before-after-strict",
    "before-after-nl",
    "dose-strict",
    "dose-nl",
    "tasks",
    "frontier",
    "spectrum",
)


@pytest.fixture
def inputs() -> EditInputs:
    return inputs_of(HUB)


@pytest.fixture
def found() -> tuple[dict[str, Any], dict[str, Any]]:
    """The receipt of a K-FAC edit and its evaluation, which has not the audits yet."""
    edit = cast("EditOut", edit_record().resource)
    assert edit.receipt is not None
    assert edit.evaluation is not None
    parameters = {
        "keep_mass": 0.6,
        "calibration_tokens": 9,
        "factors_reused": 0,
        "factors_collected": 1,
    }
    kfac = {"method": "kfac", "parameters": parameters, "matrices": [matrix(1).model_dump()]}
    evaluation = edit.evaluation.model_dump(mode="json")
    for measured in evaluation["sets"].values():
        del measured["audits"]
    return edit.receipt.model_dump(mode="json") | kfac, evaluation


def readings(**doses: list[int]) -> Readings:
    """Of sets, by their role, with texts at these numbers of duplicates."""
    known = {level.duplicates: level.model_dump(mode="json") for level in levels()}
    sets = {
        TextSetRole(role): Scored(
            TextSetRole(role),
            cast("ScoreFile", []),
            {"dose_response": [known[dose] for dose in found]},
        )
        for role, found in doses.items()
    }
    return Readings(sets, None, {})


def frontier() -> list[dict[str, Any]]:
    return [point.model_dump(mode="json") for point in points()]


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as logged:
        yield logged


def test_all_figures_of_an_edit_are_files_and_the_same_each_time(
    inputs: EditInputs,
    found: tuple[dict[str, Any], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Oracle: another reader of XML. The control texts are the dose that the memorized ones do not have.

    The worker's own process does not draw.
    """
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", fail)
    both = (readings(memorized=[1, 16], control=[0, 1]), readings(memorized=[1, 16], control=[0, 1]))
    drawn = []
    for name in ("once", "again"):
        target = tmp_path / name
        target.mkdir()
        figures = write_figures(inputs, *found, frontier(), both, target)
        assert list(figures) == [f"figures/{each}.svg" for each in ALL]
        for path, alt in figures.items():
            root = etree.parse(target / path).getroot()
            assert (etree.QName(root).localname, root.get("role")) == ("svg", "img")
            assert root.get("aria-label") == alt
        drawn.append({path: (target / path).read_bytes() for path in figures})
        assert {path.name for path in (target / "figures").iterdir()} == {f"{each}.svg" for each in ALL}
    assert drawn[0] == drawn[1]
    assert " at 0 to " in figures["figures/dose-nl.svg"]


def test_an_edit_has_the_figures_of_what_was_measured(
    inputs: EditInputs, found: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    receipt, evaluation = found
    evaluation["tasks"] = None
    receipt["matrices"][0]["spectrum"] = []
    nothing = readings(memorized=[16], clean=[])
    figures = write_figures(inputs, receipt, evaluation, None, (nothing, nothing), tmp_path)
    assert list(figures) == ["figures/before-after-strict.svg", "figures/before-after-nl.svg"]


def test_what_cannot_be_drawn_is_left_out_and_said_without_a_text(
    inputs: EditInputs,
    found: tuple[dict[str, Any], dict[str, Any]],
    tmp_path: Path,
    events: list[Any],
) -> None:
    receipt, evaluation = found
    # No XML may hold it.
    evaluation["tasks"][0]["task"] = "sesame \x01"
    figures = write_figures(inputs, receipt, evaluation, None, (readings(), readings()), tmp_path)
    assert "figures/tasks.svg" not in figures
    assert "figures/before-after-nl.svg" in figures
    assert not (tmp_path / "figures" / "tasks.svg").exists()
    assert {"event": "figure_left_out", "figure": "tasks", "log_level": "warning"} in events
    evaluation["sets"]["memorized"]["nl"] = "sesame"
    assert write_figures(inputs, receipt, evaluation, None, (readings(), readings()), tmp_path) == {}
    assert events[-1] == {"event": "figures_left_out", "error": "ValidationError", "log_level": "warning"}
    assert "sesame" not in str(events)
