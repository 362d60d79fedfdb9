"""What a measurement is to an audit: it asks the language model more than the one pass over each text.

A metric (`workers.science.metrics`) follows from that pass; a measurement makes passes of its own. Modules of
this package bring one each and are imported where summaries are made too, by workers without torch: what
needs torch is imported inside `measure`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.science.measurements.options import MeasurementOptions
from workers.science.metrics.metric import JSONObject, MetricResult, SummaryAccumulator
from workers.science.scoring.texts import ScoringOptions, TextInput

if TYPE_CHECKING:
    from workers.science.models.loading import LanguageModel
    from workers.science.scoring.prefix_token import PrefixToken

# Told how many of the texts are done, again and again while work goes on; raises to stop it.
OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredText:
    """A text and the facts that measurements ask about.

    Attributes:
        text: with the split that the client gave, if any.
        choices: possible answers, for questions with choices.
        answer: the index of the right one.
        metadata: the client's own fields.
    """

    text: TextInput
    choices: tuple[str, ...] | None = None
    answer: int | None = None
    metadata: JSONObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured, and how.

    Attributes:
        language_model: the model.
        prefix_token: what stands before a text.
        scoring: what the audit asked of every metric: lengths, the client's decoding, special tokens.
        options: what it asked of single measurements.
    """

    language_model: "LanguageModel"
    prefix_token: "PrefixToken"
    scoring: ScoringOptions
    options: MeasurementOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measurement of texts that could be scored.

    Attributes:
        name: as the contracts have it.
        measure: from texts to one JSON object each, in order; None for a text that it does not apply to (or
            an object whose `status` says why). It reports after every batch, at least every few seconds.
            Raises `ScoreNotFinite` if the model gives a number that is not finite.
        summary: makes what it says of all texts by itself, if the contract has that.
    """

    name: str
    measure: Callable[[Subject, Sequence[MeasuredText], OnProgress], list[MetricResult | None]]
    summary: Callable[[], SummaryAccumulator] | None = None
