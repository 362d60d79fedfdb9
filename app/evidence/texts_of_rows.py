"""What documents with a part for each text say of one: its numbers, and itself or where it is."""

from typing import Final

from pydantic import BaseModel

from app.audits.schemas import AuditOut
from app.audits.score_schemas import ScoreOut
from app.contracts.metrics.registry import METRICS
from app.evidence.record import RecordedRow

Number = bool | float
_ALWAYS: Final = ("nl", "nl_byte", "perplexity")


def numbers_of(score: ScoreOut) -> dict[str, Number]:
    """What was measured of a text, by the name that its mean or share has in a summary."""
    found: dict[str, Number | None] = {name: getattr(score, name) for name in _ALWAYS}
    for metric in METRICS.values():
        result = getattr(score, metric.name)
        if isinstance(result, BaseModel):
            facts = result.model_dump()
            found |= {number.name: number.read(facts) for number in metric.numbers}
    return {name: value for name, value in found.items() if value is not None}


def judgement_of(score: ScoreOut) -> dict[str, str | float | int]:
    """What comparison with other texts said of a text; empty without one."""
    facts = {
        "verdict": score.verdict and score.verdict.value,
        "p_value": score.p_value,
        "q_value": score.q_value,
        "equivalent_duplicates": score.equivalent_duplicates,
    }
    return {name: value for name, value in facts.items() if value is not None}


def prompt_and_target(audit: AuditOut, row: RecordedRow) -> tuple[str, list[str]]:
    """A text's prefix and suffix, or all of it and nothing; where it is, if the record holds no texts.

    The digest of a text would tell who guesses it that the guess is right, so there is none: the digest of
    the whole set and the text's id in it say which text it is.
    """
    if row.text is None:
        return f"memaudit:{audit.text_set}/{row.score.text_id}?hmac_sha256={audit.digests.text_set}", []
    text, split = row.text.text, row.text.prefix_chars
    return (text, []) if split is None else (text[:split], [text[split:]])
