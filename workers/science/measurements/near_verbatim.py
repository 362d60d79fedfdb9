"""`near_verbatim`: how likely a sample comes close to a text's suffix at least (arXiv 2603.24917)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workers.science.measurements.measurement import MeasuredText, Measurement, OnProgress, Subject
from workers.science.metrics.metric import JSONObject, MetricResult
from workers.science.metrics.splits import NOT_APPLICABLE, Split, SplitTally
from workers.science.models.tokenization import tokenize
from workers.science.statistics.estimates import Mean

if TYPE_CHECKING:
    from workers.science.passages.near_verbatim import NearVerbatim


def measure_near_verbatim(
    subject: Subject, texts: Sequence[MeasuredText], on_progress: OnProgress
) -> list[MetricResult | None]:
    """The bound for each text's suffix; see `Measurement.measure`."""
    from workers.science.passages.near_verbatim import Recital, near_verbatim  # noqa: PLC0415 - torch
    from workers.science.scoring.plan import splittable_text  # noqa: PLC0415 - torch
    from workers.science.scoring.vocabulary.sampling import Sampling  # noqa: PLC0415 - torch

    language_model, scoring = subject.language_model, subject.scoring
    tokenized = tokenize(language_model.tokenizer, [text.text.text for text in texts], scoring.special_tokens)
    splits = [
        splittable_text(text.text, tokens, language_model, scoring, subject.prefix_token).as_asked()
        for text, tokens in zip(texts, tokenized, strict=True)
    ]
    places = [place for place, split in enumerate(splits) if split.applicable]
    in_front = np.array(subject.prefix_token.in_front, dtype=np.int64)
    done = len(texts) - len(places)

    def count(more: int) -> None:
        nonlocal done
        done += more
        on_progress(done)

    bounds = near_verbatim(
        language_model,
        [
            Recital(
                np.concatenate((in_front, tokenized[place].token_ids[: splits[place].prefix_tokens])),
                tokenized[place].token_ids[splits[place].suffix],
            )
            for place in places
        ],
        Sampling(scoring.temperature, scoring.top_k),
        similarity=subject.options.near_verbatim.similarity,
        beams=subject.options.near_verbatim.beams,
        on_batch=count,
    )
    found: list[MetricResult | None] = [near_verbatim_result(NOT_APPLICABLE, None) for _ in texts]
    for place, bound in zip(places, bounds, strict=True):
        found[place] = near_verbatim_result(splits[place], bound)
    return found


def near_verbatim_result(split: Split, bound: "NearVerbatim | None") -> MetricResult:
    """A text's result; all but `status` None where no suffix is left to recite."""
    if bound is None:
        return {"status": split.status, "distance": None, "log_p": None, "p": None, "log_p_z": None}
    return {
        "status": split.status,
        "distance": bound.distance,
        "log_p": bound.log_p if math.isfinite(bound.log_p) else None,
        "p": math.exp(bound.log_p),
        "log_p_z": bound.log_p_z if math.isfinite(bound.log_p_z) else None,
    }


class NearVerbatimSummary:
    """How likely samples come close, over the texts that have a suffix."""

    def __init__(self) -> None:
        self._splits = SplitTally()
        self._p = Mean(within=(0.0, 1.0))

    def add(self, found: JSONObject) -> None:
        """Count one text."""
        self._splits.add(found["status"])
        self._p.add(found["p"])

    def result(self) -> JSONObject | None:
        """None if no text was looked at."""
        splits = self._splits.result()
        return None if splits is None else {"splits": splits, "p": self._p.result()}


MEASUREMENT = Measurement(name="near_verbatim", measure=measure_near_verbatim, summary=NearVerbatimSummary)
