"""Texts as rows have them and as the scorer takes them; its scores as rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from app.store.scores import ScoreRow
from app.store.texts import ClearText
from app.store.token_evidence import Evidence
from workers.science.measurements.measurement import MeasuredText
from workers.science.scoring.texts import TextInput, TextScore


@dataclass(frozen=True, slots=True)
class TextFacts:
    """What a score row says of its text: everything but the text itself."""

    ordinal: int
    text_id: str
    group: str | None
    duplicates: int | None


def text_input(row: ClearText) -> TextInput:
    """A stored text as the scorer takes it."""
    if row.prefix_chars is None:
        return TextInput(row.text)
    return TextInput(row.text, prefix=row.text[: row.prefix_chars], suffix=row.text[row.prefix_chars :])


def measured_text(row: ClearText) -> MeasuredText:
    """A stored text as measurements take it."""
    return MeasuredText(
        text=text_input(row),
        choices=None if row.choices is None else tuple(row.choices),
        answer=row.answer,
        metadata=row.metadata,
    )


def score_row(audit_id: UUID, text: ClearText | TextFacts, score: TextScore) -> ScoreRow:
    """What is stored of a text's score; its evidence has rows of their own."""
    return ScoreRow(
        audit_id=audit_id,
        ordinal=text.ordinal,
        text_id=text.text_id,
        group=text.group,
        duplicates=text.duplicates,
        n_tokens=score.n_tokens,
        n_bytes=score.n_bytes,
        n_windows=score.n_windows,
        log_likelihood=score.log_likelihood,
        nl=score.nl,
        nl_byte=score.nl_byte,
        perplexity=score.perplexity,
        metrics=dict(score.metrics),
        error=score.error,
    )


def evidence_rows(texts: Sequence[ClearText], scores: Sequence[TextScore]) -> Iterable[Evidence]:
    """What is stored of the tokens of those texts that have evidence."""
    for text, score in zip(texts, scores, strict=True):
        evidence = score.evidence
        if evidence is not None:
            yield Evidence(
                ordinal=text.ordinal,
                token_ids=_packed(evidence.token_ids, "<i4"),
                log_likelihoods=_packed(evidence.log_likelihood, "<f4"),
                ranks=_packed(evidence.rank, "<i4"),
                spans=_packed(evidence.offsets, "<i4"),
                means=_packed(evidence.mean, "<f4"),
                deviations=_packed(evidence.deviation, "<f4"),
                sampling_log_likelihoods=None
                if evidence.sampling_log_likelihood is None
                else _packed(evidence.sampling_log_likelihood, "<f4"),
            )


def _packed(array: np.ndarray, item: str) -> bytes:
    return array.astype(item, copy=False).tobytes()
