"""What the registry comes to in requests, scores and summaries."""

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from app.contracts.metrics.metric import SummaryNumber
from app.contracts.metrics.registry import METRICS
from app.contracts.results.intervals import MeanInterval, ShareInterval

# Measured of every text, asked for or not: it is no object of its own.
ALWAYS: Final = "nl"

UNSCORED: Final = "null where `error` says why the text could not be scored."
_UNMEASURED: Final = "Null unless the audit's `metrics` ask for it; " + UNSCORED
_INTERVALS: Final = {"mean": MeanInterval, "share": ShareInterval}

Fields: TypeAlias = dict[str, Any]  # as `pydantic.create_model` takes them

if TYPE_CHECKING:
    MetricName: TypeAlias = str
else:
    MetricName = Literal[ALWAYS, *METRICS]


def score_fields() -> Fields:
    """The fields of a score that hold what the metrics measured of a text."""
    return {
        name: (
            Annotated[metric.score | None, Field(description=f"{metric.description} {_UNMEASURED}".lstrip())],
            None,
        )
        for name, metric in METRICS.items()
    }


def summary_fields() -> Fields:
    """The fields of a summary that hold what the metrics found of all texts."""
    found: Fields = {}
    for metric in METRICS.values():
        found |= {number.name: _number_field(number) for number in metric.numbers}
        if (own := metric.summary) is not None:
            found[own.name] = (Annotated[own.schema | None, Field(description=own.description)], None)
    return found


def level_numbers() -> list[tuple[str, SummaryNumber]]:
    """The numbers that each level of a summary has too, with the names of their metrics."""
    return [
        (metric.name, number) for metric in METRICS.values() for number in metric.numbers if number.by_level
    ]


def level_fields() -> Fields:
    """The fields of a level that hold what the metrics found of its texts."""
    return {number.name: _number_field(number) for _, number in level_numbers()}


def _number_field(number: SummaryNumber) -> tuple[Any, Any]:
    interval = _INTERVALS[number.kind]
    default = ... if number.required else None
    return (Annotated[interval | None, Field(description=number.description)], default)
