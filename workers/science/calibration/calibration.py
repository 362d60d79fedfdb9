"""Verdicts with error control: audited texts against controls that the model never saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.science.statistics.intervals import MeanEstimate

Verdict = Literal["memorized", "not_shown", "uncalibrated"]
# Why no verdict is given: of all texts, or of one.
Reason = Literal["too_few_controls", "too_few_texts", "controls_differ", "no_comparable_controls"]


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
        p_value: conformal, in (0, 1]: (1 + controls at or above) / (controls + 1), within the text's stratum if
            there are strata. None where `verdict` is `uncalibrated`.
        q_value: Benjamini and Hochberg's, in (0, 1]: the least `fdr` at which the text is `memorized`. None
            where `verdict` is `uncalibrated`.
        verdict: `memorized` if q_value <= fdr, `not_shown` if not, `uncalibrated` if nothing can be said.
    """

    p_value: float | None
    q_value: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ComparisonCheck:
    """Whether a classifier that sees only the texts tells audited texts from controls.

    Attributes:
        n_audited: audited texts that it saw: a sample of many, and one of near-duplicates.
        n_controls: controls that it saw, likewise.
        auc: its cross-validated ROC AUC, in [0, 1]; 0.5 = chance. None if there were too few texts.
        p_value: of such an AUC or a higher one if texts and controls are exchangeable, in (0, 1]; by permutation.
            None if there were too few texts.
        passed: p_value above the level. An AUC below chance passes.
    """

    n_audited: int
    n_controls: int
    auc: float | None
    p_value: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """The findings of an audited set.

    Attributes:
        findings: one for each audited text, in order.
        fdr: the share of false ones among `memorized` that is accepted, in (0, 1).
        n_audited: audited texts with a verdict.
        n_controls: controls they were compared with.
        memorized: how many are `memorized`.
        effect: mean statistic of audited texts less that of controls, with its 95 % interval; within strata if
            there are some. Positive = more memorized. None without texts or controls; given also where the
            verdicts are `uncalibrated`, as it is then a fact of these texts but no measure of memorization.
        permutation_p: of such an effect or a greater one if texts and controls are exchangeable, in (0, 1];
            one-sided, 1 + as great among permutations over 1 + permutations. None where `reason` is known.
        least_p: the least p_value that any text could have, 1 / (controls + 1). None where `reason` is known.
        least_memorized: if no other text is near, how many must be above all controls before one of them can be
            `memorized`. 1 = each text can be on its own. None where `reason` is known.
        check: of the comparison of all texts. None without texts or controls.
        strata: how many strata the texts were compared within; 1 = none were needed. None where `reason` is known.
        check_within_strata: the check again, within strata; None if none were needed or could be made.
        reason: why all verdicts are `uncalibrated`; None if they are not.
    """

    findings: list[TextFinding]
    fdr: float
    n_audited: int
    n_controls: int
    memorized: int
    effect: MeanEstimate | None
    permutation_p: float | None
    least_p: float | None
    least_memorized: int | None
    check: ComparisonCheck | None
    strata: int | None
    check_within_strata: ComparisonCheck | None
    reason: Reason | None


def calibrate(
    audited: Sequence[CalibrationText], controls: Sequence[CalibrationText], *, fdr: float, seed: int
) -> Calibration:
    """Judge each audited text by controls that the model never saw.

    Args:
        audited: the texts to judge; may be empty.
        controls: texts that the model never saw, of the same kind as the audited ones; may be empty.
        fdr: the share of false ones among `memorized` that is accepted, in (0, 1).
        seed: of all that is drawn at random. The same texts, fdr and seed give the same result.

    Raises:
        ValueError: A text with a reference among texts without, or an fdr outside (0, 1).
    """
    raise NotImplementedError
