"""`windows`: every passage of a document that the model recalls (arXiv 2505.12546)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from workers.science.measurements.measurement import MeasuredText, Measurement, OnProgress, Subject
from workers.science.metrics.metric import JSONObject, MetricResult
from workers.science.models.tokenization import TokenizedText, tokenize
from workers.science.statistics.estimates import Mean

if TYPE_CHECKING:
    from workers.science.passages.overlapping import RecalledTokens

NOT_APPLICABLE: Final = "not_applicable"


def measure_windows(
    subject: Subject, texts: Sequence[MeasuredText], on_progress: OnProgress
) -> list[MetricResult | None]:
    """What windows over each text recall; see `Measurement.measure`."""
    from workers.science.passages.overlapping import overlap_of_chunks, recall_documents  # noqa: PLC0415 - torch
    from workers.science.scoring.vocabulary.sampling import Sampling  # noqa: PLC0415 - torch

    language_model, options, scoring = subject.language_model, subject.options.windows, subject.scoring
    room = language_model.context_length - len(subject.prefix_token.in_front)
    overlap = overlap_of_chunks(room, options.prefix_tokens, options.suffix_tokens)
    tokenized = tokenize(language_model.tokenizer, [text.text.text for text in texts], scoring.special_tokens)
    found: list[MetricResult | None] = [{"status": NOT_APPLICABLE} for _ in texts]
    if overlap is None:
        return found
    window_tokens = options.prefix_tokens + options.suffix_tokens
    long = [place for place, tokens in enumerate(tokenized) if len(tokens.token_ids) >= window_tokens]
    recalled = recall_documents(
        language_model,
        [tokenized[place].token_ids for place in long],
        subject.prefix_token,
        Sampling(scoring.temperature, scoring.top_k),
        overlap=overlap,
        batch_tokens=scoring.batch_tokens,
        # Of a text that is long enough, the spans are still to be found.
        on_progress=lambda _: on_progress(len(texts) - len(long)),
    )
    for done, (place, tokens) in enumerate(zip(long, recalled, strict=True)):
        report = partial(on_progress, len(texts) - len(long) + done)
        found[place] = _book(subject, texts[place].text.text, tokenized[place], tokens, overlap, report)
    on_progress(len(texts))
    return found


def _book(
    subject: Subject,
    text: str,
    tokenized: TokenizedText,
    recalled: "RecalledTokens",
    overlap: int,
    on_batch: Callable[[], None],
) -> MetricResult:
    from workers.science.passages.book import book_result  # noqa: PLC0415 - as above
    from workers.science.passages.spans import Document, SpanFinder  # noqa: PLC0415 - as above
    from workers.science.passages.windows import windows_of  # noqa: PLC0415 - as above
    from workers.science.scoring.vocabulary.sampling import Sampling  # noqa: PLC0415 - as above

    options, scoring = subject.options.windows, subject.scoring
    finder = SpanFinder(
        subject.language_model,
        subject.prefix_token,
        Sampling(scoring.temperature, scoring.top_k),
        options.suffix_tokens,
        on_batch,
    )
    breaks = np.array([not text[start:end].strip("\r\n") for start, end in tokenized.offsets], dtype=np.bool_)
    spans = finder.find(Document(tokenized.token_ids, breaks, recalled))
    windows = windows_of(recalled, options.prefix_tokens, options.suffix_tokens, options.stride)
    return book_result(windows, spans, tokenized.offsets, len(text), overlap)


class WindowsSummary:
    """What was recalled of documents that are long enough for a window."""

    def __init__(self) -> None:
        self._not_applicable = 0
        self._windows = 0
        self._strict = Mean(within=(0.0, 1.0))
        self._extractable: dict[float, Mean] = {}
        self._spans = 0
        self._longest = 0

    def add(self, found: JSONObject) -> None:
        """Count one document."""
        if found["status"] == NOT_APPLICABLE:
            self._not_applicable += 1
            return
        self._windows += found["windows"]
        self._strict.add(found["strict"])
        for level in found["extractable"]:
            self._extractable.setdefault(level["p"], Mean(within=(0.0, 1.0))).add(level["share"])
        self._spans += found["span_count"]
        self._longest = max(self._longest, found["longest_tokens"])

    def result(self) -> JSONObject | None:
        """None if no document was looked at."""
        documents = self._strict.moments.n
        if documents + self._not_applicable == 0:
            return None
        return {
            "documents": documents,
            "not_applicable": self._not_applicable,
            "windows": self._windows,
            "strict": self._strict.result(),
            "extractable": [
                {"p": level, "share": share.result()} for level, share in sorted(self._extractable.items())
            ],
            "span_count": self._spans,
            "longest_tokens": self._longest,
        }


MEASUREMENT = Measurement(name="windows", measure=measure_windows, summary=WindowsSummary)
