"""Rules on single texts, observed of the score rows of an audit: all in scope, by SQL."""

from typing import Any

from sqlalchemy import and_, func
from sqlalchemy.orm import Session

from app.contracts.policies.equivalent_duplicates import EquivalentDuplicates
from app.contracts.policies.no_memorized_text import NoMemorizedText
from app.contracts.policies.probabilistic_extraction import ProbabilisticExtraction
from app.contracts.policies.rate import PROPERTIES, Rate
from app.contracts.results.gates import MOST_DECIDING
from app.contracts.results.observations import Observation
from app.contracts.results.reasons import Reason
from app.store.score_counts import (
    Question,
    ScoreCounts,
    count_scores,
    texts_that_count,
    texts_undecided,
    texts_unmeasured,
)
from app.store.score_findings import ScoreFinding
from app.store.scores import Score
from workers.gates.controls import least_q
from workers.gates.observed import Observed
from workers.gates.subject import JSONObject, Judged, measures
from workers.science.statistics.shares import one_sided_bounds


def no_memorized_text(judged: Judged, rule: NoMemorizedText) -> Observed:
    """By the q-values of an audit with controls."""
    audit = judged.audit_for(rule)
    q_value = ScoreFinding.q_value
    asked = Question(
        audit_id=audit.id,
        groups=rule.groups,
        measured=q_value.is_not(None),
        counts=q_value <= rule.q,
        value=-q_value,
        strength=-q_value,
    )
    counts = count_scores(judged.session, asked)
    calibration: JSONObject | None = (audit.summary or {}).get("calibration")
    least = None if counts.largest is None else -counts.largest
    observation = _observation(
        counts,
        least,
        least_q=None if calibration is None else least_q(calibration, rule.detects),
        missing=_why_uncalibrated(calibration),
    )
    return _with_texts(judged.session, asked, observation)


def _why_uncalibrated(calibration: JSONObject | None) -> Reason | None:
    if calibration is None:
        return "uncalibrated"
    if calibration["reason"] is None:
        return None
    return "too_few_controls" if calibration["reason"] == "too_few_controls" else "uncalibrated"


def rate(judged: Judged, rule: Rate) -> Observed:
    """By a field of what a metric measured of each text, with exact bounds."""
    audit, counted = judged.audit_for(rule), PROPERTIES[rule.metric]
    field = Score.metrics[counted.metric, *counted.field]
    if counted.at_least is None:
        measured, holds, strength = field.as_boolean().is_not(None), field.as_boolean(), Score.nl
    else:
        number = field.as_float()
        measured, holds, strength = number.is_not(None), number >= counted.at_least, number
    asked = Question(
        audit_id=audit.id,
        groups=rule.groups,
        measured=measured,
        counts=holds,
        value=strength,
        strength=strength,
    )
    counts = count_scores(judged.session, asked)
    if not measures(audit, counted.metric):
        return Observed(Observation(missing="not_measured", unmeasured=counts.unmeasured))
    if counts.n == 0:
        return Observed(Observation(count=0, unmeasured=counts.unmeasured))
    low, high = one_sided_bounds(counts.count, counts.n, rule.confidence)
    share = counts.count / counts.n
    observation = _observation(counts, share, low=low, high=high, confidence=rule.confidence)
    deciding = texts_that_count(judged.session, asked, limit=MOST_DECIDING)
    return Observed(observation, deciding, counts.count)


def probabilistic_extraction(judged: Judged, rule: ProbabilisticExtraction) -> Observed:
    """By `p_z`. A text that can never be sampled is measured, and does not count."""
    audit = judged.audit_for(rule)
    log_p_z = Score.metrics["p_z", "log_p_z"].as_float()
    asked = Question(
        audit_id=audit.id,
        groups=rule.groups,
        measured=func.coalesce(Score.metrics["p_z", "status"].as_string() != "not_applicable", False),
        counts=log_p_z >= rule.log_p_z,
        value=log_p_z,
        strength=log_p_z,
    )
    counts = count_scores(judged.session, asked)
    if not measures(audit, "p_z"):
        return Observed(Observation(missing="not_measured", unmeasured=counts.unmeasured))
    likeliest = 0.0 if counts.largest is None else rule.extracted(counts.largest)
    observation = _observation(counts, likeliest if counts.n else None)
    return _with_texts(judged.session, asked, observation)


def equivalent_duplicates(judged: Judged, rule: EquivalentDuplicates) -> Observed:
    """By the equivalent duplicates of the texts of unknown number, and the interval of each."""
    audit = judged.audit_for(rule)
    above = ScoreFinding.equivalent_low > rule.at_most
    asked = Question(
        audit_id=audit.id,
        groups=rule.groups,
        within=Score.duplicates.is_(None),
        measured=ScoreFinding.equivalent_high.is_not(None),
        counts=above,
        undecided=and_(~above, ScoreFinding.equivalent_high > rule.at_most),
        value=ScoreFinding.equivalent_duplicates,
        strength=ScoreFinding.equivalent_low,
    )
    counts = count_scores(judged.session, asked)
    return _with_texts(judged.session, asked, _observation(counts, counts.largest))


def _observation(counts: ScoreCounts, value: float | None, **more: Any) -> Observation:
    return Observation(
        value=value,
        n=counts.n,
        count=counts.count,
        unmeasured=counts.unmeasured,
        undecided=counts.undecided,
        **more,
    )


def _with_texts(session: Session, asked: Question, observation: Observation) -> Observed:
    """The texts that decide where one does: those that count, else those that keep the rule from passing."""
    if observation.count:
        return Observed(observation, texts_that_count(session, asked, limit=MOST_DECIDING), observation.count)
    if observation.missing is not None:
        return Observed(observation)
    if observation.unmeasured:
        texts = texts_unmeasured(session, asked, limit=MOST_DECIDING)
        return Observed(observation, texts, observation.unmeasured)
    texts = texts_undecided(session, asked, limit=MOST_DECIDING) if observation.undecided else ()
    return Observed(observation, texts, observation.undecided)
