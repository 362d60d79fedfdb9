"""Verdicts with error control: audited texts against controls that the model never saw.

What is claimed, and what it rests on:

- If audited texts that were never seen are exchangeable with the controls, at most a share `fdr` of the texts
  called `memorized` is expected never to have been seen.
- That they are exchangeable cannot be proved, only refuted: by a classifier that sees the texts alone (see
  `comparison`). Where it tells them apart, texts are compared within strata of like length and reference
  likelihood, and checked again within these. Where that does not help, or leaves more than half of the texts
  without controls, no verdict is given.
- Where no text could be `memorized` whatever its statistic, because even above all controls its p-value is
  above `fdr`, the verdict is `uncalibrated` and not `not_shown`: "not shown" says that it could have been.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workers.science.calibration.comparison import ComparisonCheck, sample_texts
from workers.science.calibration.conformal import (
    conformal_p_values,
    controls_needed,
    discoveries_needed,
    is_discovery,
    q_values,
)
from workers.science.calibration.exchangeability import difference_p_value
from workers.science.calibration.strata import LEFT_OUT, stratify
from workers.science.statistics.intervals import MeanEstimate, Moments, gain_within

Verdict = Literal["memorized", "not_shown", "uncalibrated"]
# Why no text has a verdict.
Reason = Literal["too_few_controls", "too_few_texts", "controls_differ"]

# Strata that leave out more of the audited texts do not speak for them.
_LEAST_COMPARABLE = 0.5


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """A text with its statistic under the audited model.

    Attributes:
        text: what the check of the comparison reads.
        statistic: higher = more memorized, finite; `nl`, or with a reference model `nl` less the reference's.
        n_tokens: its length, at least 1.
        reference: `nl` under the reference model, finite; None without one. All texts have one, or none.
    """

    text: str
    statistic: float
    n_tokens: int
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class TextFinding:
    """What is shown of one audited text.

    Attributes:
        p_value: conformal, in (0, 1]: (1 + controls at or above) / (controls + 1), within the text's stratum
            if there are strata. None where `verdict` is `uncalibrated`.
        q_value: Benjamini and Hochberg's, in (0, 1]: the least `fdr` at which the text is `memorized`. None
            where `verdict` is `uncalibrated`.
        verdict: `memorized` if q_value <= fdr, `not_shown` if not, `uncalibrated` if nothing can be said.
    """

    p_value: float | None
    q_value: float | None
    verdict: Verdict


_UNCALIBRATED = TextFinding(None, None, "uncalibrated")


@dataclass(frozen=True, slots=True)
class Calibration:
    """The findings of an audited set.

    Attributes:
        findings: one for each audited text, in order.
        fdr: the share of false ones among `memorized` that is accepted, in (0, 1).
        n_audited: audited texts.
        n_controls: controls.
        memorized: how many of the audited texts are `memorized`.
        uncalibrated: how many are `uncalibrated`: all, if there is a `reason`, else those in strata that have
            too few controls.
        effect: mean statistic of audited texts less that of controls, with its 95 % interval; within strata
            if there are some, and then of the texts in them. Positive = more memorized. None without texts or
            controls. Known also where there is a `reason`: a fact of these texts, but no measure of
            memorization.
        permutation_p: of such an effect or a greater one if texts and controls are exchangeable, in (0, 1];
            one-sided. None where there is a `reason`.
        least_p: the least p_value that a text could have, 1 / (controls + 1), of the largest stratum. None
            where there is a `reason`.
        least_memorized: how many texts must be above all controls before one of them is `memorized`; 1 = each
            can be on its own. None where there is a `reason`.
        check: of the comparison of all texts. None without texts or controls.
        strata: how many strata the texts were compared within; 1 = none were needed. None where there is a
            `reason`.
        check_within_strata: the check again, within strata; None if none were needed or could be made.
        reason: why all verdicts are `uncalibrated`; None if they are not. `too_few_controls`: fewer than
            1 / fdr - 1. `too_few_texts`: the comparison cannot be checked with fewer than five of a kind that
            are no near-duplicates. `controls_differ`: the check did not pass, nor within strata.
    """

    findings: list[TextFinding]
    fdr: float
    n_audited: int
    n_controls: int
    memorized: int
    uncalibrated: int
    effect: MeanEstimate | None
    permutation_p: float | None
    least_p: float | None
    least_memorized: int | None
    check: ComparisonCheck | None
    strata: int | None
    check_within_strata: ComparisonCheck | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Audited texts, then controls.

    Attributes:
        labels: True for audited texts [texts].
        statistics: higher = more memorized [texts].
        n_tokens: lengths [texts].
        reference: `nl` under the reference model [texts], if there is one.
    """

    texts: list[str]
    labels: npt.NDArray[np.bool_]
    statistics: npt.NDArray[np.float64]
    n_tokens: npt.NDArray[np.int_]
    reference: npt.NDArray[np.float64] | None

    def within(self, strata: npt.NDArray[np.int_]) -> list[npt.NDArray[np.intp]]:
        """The places of the texts of each stratum."""
        return [np.flatnonzero(strata == stratum) for stratum in np.unique(strata) if stratum != LEFT_OUT]


@dataclass(frozen=True, slots=True)
class _Grounds:
    """What the check of a comparison left standing: strata, or the reason why there are none."""

    check: ComparisonCheck | None = None
    check_within_strata: ComparisonCheck | None = None
    strata: npt.NDArray[np.int_] | None = None
    reason: Reason | None = None


def calibrate(
    audited: Sequence[CalibrationText], controls: Sequence[CalibrationText], *, fdr: float, seed: int
) -> Calibration:
    """Judge each audited text by controls that the model never saw.

    Args:
        audited: the texts to judge; may be empty.
        controls: texts that the model never saw, of the same kind as the audited ones; may be empty.
        fdr: the share of false ones among `memorized` that is accepted, in (0, 1).
        seed: of all that is drawn at random, at least 0. The same texts, fdr and seed give the same result.

    Raises:
        ValueError: A text with a reference among texts without, or an fdr outside (0, 1).
    """
    if not 0 < fdr < 1:
        raise ValueError("fdr must be between 0 and 1")
    comparison = _compare(audited, controls)
    random = np.random.default_rng(seed)
    grounds = _check(comparison, controls_needed(fdr), random)
    if grounds.strata is None:
        return _without_verdicts(comparison, grounds, fdr)
    return _with_verdicts(comparison, grounds, grounds.strata, fdr, random)


def _compare(audited: Sequence[CalibrationText], controls: Sequence[CalibrationText]) -> _Comparison:
    texts = [*audited, *controls]
    references = [text.reference for text in texts if text.reference is not None]
    if references and len(references) < len(texts):
        raise ValueError("all texts have a reference likelihood, or none")
    return _Comparison(
        texts=[text.text for text in texts],
        labels=np.arange(len(texts)) < len(audited),
        statistics=np.array([text.statistic for text in texts], dtype=np.float64),
        n_tokens=np.array([text.n_tokens for text in texts], dtype=np.int_),
        reference=np.array(references) if references else None,
    )


def _check(comparison: _Comparison, least_controls: int, random: np.random.Generator) -> _Grounds:
    """Check the comparison of all texts, and if that does not pass, within strata."""
    labels = comparison.labels
    if labels.all() or not labels.any():
        return _Grounds(reason="too_few_controls" if labels.all() else "too_few_texts")
    sampled = sample_texts(comparison.texts, comparison.n_tokens, labels, random)
    one = np.zeros(len(labels), dtype=np.int_)
    check = sampled.check(one, random)
    if (~labels).sum() < least_controls:
        return _Grounds(check, reason="too_few_controls")
    if check.auc is None:
        return _Grounds(check, reason="too_few_texts")
    if check.passed:
        return _Grounds(check, strata=one)
    strata = stratify(comparison.n_tokens, comparison.reference, labels, least_controls=least_controls)
    if strata is None or (strata[labels] != LEFT_OUT).mean() < _LEAST_COMPARABLE:
        return _Grounds(check, reason="controls_differ")
    within = sampled.check(strata, random)
    return (
        _Grounds(check, within, strata) if within.passed else _Grounds(check, within, None, "controls_differ")
    )


def _without_verdicts(comparison: _Comparison, grounds: _Grounds, fdr: float) -> Calibration:
    labels = comparison.labels
    n_audited = int(labels.sum())
    everything = [np.arange(len(labels))]
    return Calibration(
        findings=[_UNCALIBRATED] * n_audited,
        fdr=fdr,
        n_audited=n_audited,
        n_controls=len(labels) - n_audited,
        memorized=0,
        uncalibrated=n_audited,
        effect=_effect(comparison, everything),
        permutation_p=None,
        least_p=None,
        least_memorized=None,
        check=grounds.check,
        strata=None,
        check_within_strata=grounds.check_within_strata,
        reason=grounds.reason,
    )


def _with_verdicts(
    comparison: _Comparison,
    grounds: _Grounds,
    strata: npt.NDArray[np.int_],
    fdr: float,
    random: np.random.Generator,
) -> Calibration:
    labels, blocks = comparison.labels, comparison.within(strata)
    p_values = np.full(len(labels), np.nan)
    for block in blocks:
        audited, controls = block[labels[block]], block[~labels[block]]
        p_values[audited] = conformal_p_values(
            comparison.statistics[audited], comparison.statistics[controls]
        )
    findings = _judge(p_values[labels], fdr)
    compared = int(np.isfinite(p_values).sum())
    least_p = 1 / (1 + max(int((~labels[block]).sum()) for block in blocks))
    return Calibration(
        findings=findings,
        fdr=fdr,
        n_audited=len(findings),
        n_controls=len(labels) - len(findings),
        memorized=sum(finding.verdict == "memorized" for finding in findings),
        uncalibrated=len(findings) - compared,
        effect=_effect(comparison, blocks),
        permutation_p=difference_p_value(comparison.statistics, labels, blocks, random),
        least_p=least_p,
        least_memorized=discoveries_needed(least_p, compared, fdr),
        check=grounds.check,
        strata=len(blocks),
        check_within_strata=grounds.check_within_strata,
        reason=None,
    )


def _judge(p_values: npt.NDArray[np.float64], fdr: float) -> list[TextFinding]:
    """Findings of p-values; NaN where a text has no controls to be compared with."""
    findings = [_UNCALIBRATED] * len(p_values)
    known = np.flatnonzero(np.isfinite(p_values))
    for place, q_value in zip(known.tolist(), q_values(p_values[known]).tolist(), strict=True):
        verdict: Verdict = "memorized" if is_discovery(q_value, fdr) else "not_shown"
        findings[place] = TextFinding(float(p_values[place]), q_value, verdict)
    return findings


def _effect(comparison: _Comparison, blocks: Sequence[npt.NDArray[np.intp]]) -> MeanEstimate | None:
    """How far audited texts are above controls, within blocks."""
    statistics, labels = comparison.statistics, comparison.labels
    return gain_within(
        [
            (Moments.of(statistics[block[~labels[block]]]), Moments.of(statistics[block[labels[block]]]))
            for block in blocks
        ]
    )
