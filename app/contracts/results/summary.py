"""What an audit found as a whole, as it is answered."""

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, create_model

from app.contracts.metrics.fields import level_fields, summary_fields
from app.contracts.metrics.metric import OLDER_SUMMARY
from app.contracts.results.calibration import Calibration, ReferenceDifference
from app.contracts.results.dose_response import DoseFit, ExtractionOnset
from app.contracts.results.intervals import MeanInterval

_NL = "Mean `nl`, in nats per token, at most 0; higher is more strongly memorized."


class _Level(BaseModel):
    """Every level has these, whatever was measured."""

    group: Annotated[str | None, Field(description="Of this group; null for texts of any, or of none.")]
    duplicates: Annotated[
        int | None, Field(description="Inserted so often; null for texts of unknown number.")
    ]
    nl: Annotated[MeanInterval, Field(description=_NL)]


class _Totals(BaseModel):
    """Every summary begins with these, whatever was measured."""

    texts: Annotated[int, Field(description="Texts of the set.")]
    errors: Annotated[int, Field(description="Texts that could not be scored.")]
    tokens: Annotated[int, Field(description="Tokens that were scored.")]
    log_likelihood: Annotated[float, Field(description="Total, in nats, at most 0.")]
    perplexity: Annotated[
        float | None,
        Field(description="exp(-`log_likelihood` / `tokens`), at least 1; null if nothing was scored."),
    ]
    nl: Annotated[MeanInterval | None, Field(description=_NL + " Null if nothing was scored.")]
    nl_byte: Annotated[
        MeanInterval | None, Field(description="Mean `nl_byte`, in nats per UTF-8 byte; null as `nl`.")
    ]


if TYPE_CHECKING:
    _MeasuredLevel = _Level
    _MeasuredTotals = _Totals
else:
    _MeasuredLevel = create_model("_MeasuredLevel", __base__=_Level, **level_fields())
    _MeasuredTotals = create_model("_MeasuredTotals", __base__=_Totals, **summary_fields())


class Level(_MeasuredLevel):
    """The texts of one group with one known number of duplicates."""


class Gain(MeanInterval):
    """How much higher the mean NL is at the most duplicates than at the fewest, with its 95 % interval.

    In nats per token; positive means that inserted texts are memorized. `n` is the smaller of the two
    numbers of texts; the interval is null when that is one, or where all texts of a level have the same NL.
    """

    from_duplicates: Annotated[int, Field(description="The fewest known duplicates.")]
    to_duplicates: Annotated[int, Field(description="The most known duplicates.")]


class AuditSummary(_MeasuredTotals):
    """What an audit found, over all texts that could be scored; the others are counted in `errors`."""

    levels: Annotated[
        list[Level], Field(description="By group and duplicates; empty if neither is known, or above 1,000.")
    ]
    dose_response: Annotated[
        list[Level], Field(description="By duplicates alone, fewest first; empty as `levels`.")
    ]
    gain: Annotated[
        Gain | None, Field(description="Null unless texts of two numbers of duplicates are known.")
    ]
    dose_fits: Annotated[
        list[DoseFit] | None,
        Field(
            description="Monotone fits of `dose_response` and, by group, of `levels`: all texts together, "
            "then each group that has six texts at the fewest and at the most duplicates of all. Empty "
            f"unless two numbers of duplicates have six texts each; {OLDER_SUMMARY}."
        ),
    ] = None
    extraction_onset: Annotated[
        list[ExtractionOnset] | None,
        Field(
            description="From how many duplicates on `strict` exceeds `options.extraction_rate`: of all "
            "texts, then of each group. Empty unless `extraction` was asked for and duplicates are known; "
            f"{OLDER_SUMMARY}."
        ),
    ] = None
    calibration: Annotated[Calibration | None, Field(description="Null without a `control_text_set`.")] = None
    reference_difference: Annotated[
        ReferenceDifference | None, Field(description="Null without a `reference_model`.")
    ] = None
