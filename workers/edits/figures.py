"""The figures of an edited model, as files beside its weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from app.contracts.edit_methods import METHODS
from app.contracts.results.evaluations import SetChange, TaskChange
from app.contracts.results.frontier import FrontierPoint
from app.contracts.results.summary import Level
from app.contracts.texts import TextSetRole
from app.plots import Drawing, edit_drawings, file_bytes
from app.rendering.apart import run_apart
from workers.edits.evaluation import Readings
from workers.edits.inputs import EditInputs

log = structlog.get_logger()

JSONObject = dict[str, Any]

DIRECTORY: Final = "figures"
# All of them take two seconds. It is less than a lease lasts.
_MOST_SECONDS: Final = 30.0
# Whose texts make up the dose-response: those that were inserted, and those of the same kind that were not.
_DOSED: Final = (TextSetRole.MEMORIZED, TextSetRole.CONTROL)


def write_figures(
    inputs: EditInputs,
    receipt: JSONObject,
    evaluation: JSONObject,
    frontier: Sequence[JSONObject] | None,
    readings: tuple[Readings, Readings],
    target: Path,
) -> dict[str, str]:
    """Draw what there is to see of an edit into a directory of its own below the target.

    What cannot be drawn is left out: the edit goes on without.

    Args:
        inputs: the edit.
        receipt: how it was made.
        evaluation: what `compare` found.
        frontier: the points of its search, if it searched.
        readings: of the base and of the edited model.
        target: of the edited model's files.

    Returns:
        What each written file shows, in words, by its path relative to the target.
    """
    try:
        before, after = map(_levels, readings)
        drawings = edit_drawings(
            {
                TextSetRole(role): SetChange.model_validate(found)
                for role, found in evaluation["sets"].items()
            },
            [TaskChange.model_validate(task) for task in evaluation["tasks"] or ()],
            [FrontierPoint.model_validate(point) for point in frontier or ()],
            inputs.spec.constraint.max_perplexity_increase,
            METHODS[inputs.spec.method].receipt.model_validate(receipt),
            (before, after),
        )
        return _write(drawings, target)
    except Exception as error:  # noqa: BLE001 - hours of work are not lost for a picture
        log.warning("figures_left_out", error=type(error).__name__)
        return {}


def _levels(readings: Readings) -> list[Level]:
    """The memorized texts by duplicates, and the control texts at numbers that those do not have."""
    levels: dict[int | None, JSONObject] = {}
    for role in _DOSED:
        if role in readings.sets:
            for level in readings.sets[role].summary["dose_response"]:
                levels.setdefault(level["duplicates"], level)
    known = sorted(duplicates for duplicates in levels if duplicates is not None)
    return [Level.model_validate(levels[duplicates]) for duplicates in known]


def _write(drawings: Mapping[str, Drawing], target: Path) -> dict[str, str]:
    """Draw in a process that ends with the last figure.

    The engine that draws keeps a hundred megabytes and threads, and where it runs out of memory it takes its
    process with it.
    """
    written = {}
    drawn = run_apart([(file_bytes, (drawing,)) for drawing in drawings.values()], _MOST_SECONDS)
    for (name, drawing), content in zip(drawings.items(), drawn, strict=True):
        if content is None:
            log.warning("figure_left_out", figure=name)
            continue
        path = f"{DIRECTORY}/{name}.svg"
        (target / DIRECTORY).mkdir(exist_ok=True)
        (target / path).write_bytes(content)
        written[path] = drawing.alt
    return written
