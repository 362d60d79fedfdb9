"""`paraphrase`: whether the model finds the inserted wording likelier than other wordings of it.

Source: HUBBLE (arXiv 2510.19811), its tasks `mrpc_hubble` and `paws_hubble`: multiple choice between
wordings after nothing, `acc` and `acc_norm` of lm-evaluation-harness 0.4.13.
"""

from collections.abc import Sequence
from typing import Final

from workers.science.measurements.measurement import MeasuredText, Measurement, OnProgress, Subject
from workers.science.measurements.metadata import (
    AskedCounts,
    AskedStatus,
    MetadataMalformed,
    asked_of,
    read_asked,
    strings,
)
from workers.science.measurements.multiple_choice import log_likelihoods_of
from workers.science.measurements.questions import Question
from workers.science.metrics.metric import MetricResult

NAME: Final = "paraphrase"
_MOST: Final = 100


def preference(wordings: Sequence[str], log_likelihoods: Sequence[float]) -> MetricResult:
    """By how much the first of several wordings is likelier than the likeliest of the others.

    Args:
        wordings: the inserted one, then the others; none is empty.
        log_likelihoods: of each, in nats, at most 0.
    """
    by_character = [number / len(wording) for number, wording in zip(log_likelihoods, wordings, strict=True)]
    margin = log_likelihoods[0] - max(log_likelihoods[1:])
    normalized = by_character[0] - max(by_character[1:])
    return {
        "status": "ok",
        "preferred": margin > 0,
        "margin": margin,
        "preferred_normalized": normalized > 0,
        "margin_normalized": normalized,
    }


def _without_numbers(status: AskedStatus) -> MetricResult:
    fields = ("preferred", "margin", "preferred_normalized", "margin_normalized")
    return {"status": status, **dict.fromkeys(fields)}


def _wordings(text: MeasuredText) -> tuple[str, ...] | None:
    """The text and its paraphrases; None if it has none.

    Raises:
        MetadataMalformed: the metadata holds no list of some paraphrases.
    """
    asked = asked_of(text, NAME, frozenset({"paraphrases"}))
    if asked is None:
        return None
    paraphrases = strings(asked, "paraphrases")
    if not 1 <= len(paraphrases) <= _MOST:
        raise MetadataMalformed
    return (text.text.text, *paraphrases)


def _measure(
    subject: Subject, texts: Sequence[MeasuredText], on_progress: OnProgress
) -> list[MetricResult | None]:
    statuses, asked = read_asked(texts, _wordings)
    found: list[MetricResult | None] = [_without_numbers(status) for status in statuses]
    questions = [
        Question(wordings, 0, tuple(("", wording) for wording in wordings)) for wordings in asked.values()
    ]
    answers = log_likelihoods_of(subject, questions, on_progress)
    for (place, wordings), numbers in zip(asked.items(), answers, strict=True):
        found[place] = _without_numbers("unscorable") if numbers is None else preference(wordings, numbers)
    return found


MEASUREMENT: Final = Measurement(name=NAME, measure=_measure, summary=AskedCounts)
