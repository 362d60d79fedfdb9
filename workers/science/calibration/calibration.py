"""Verdicts with error control: audited texts against controls that the model never saw.

What is claimed, and what it rests on:

- If audited texts that were never seen are exchangeable with the controls, at most a share `fdr` of the texts
  called `memorized` is expected never to have been seen.
- That they are exchangeable cannot be proved, only refuted: by a classifier that sees the texts alone (see
  `comparison`). Where it tells them apart, texts are compared within two strata or more of like length and
  reference likelihood, and checked again within these. Where that does not help, or leaves more than half of
  the texts without controls, no verdict is given.
- Texts of several kinds, known by their groups, are compared together if the classifier does not tell
  audited texts from controls: kinds are then mixed alike on both sides. If it does, strata are within groups
  (Mondrian conformal prediction; Vovk, Gammerman and Shafer 2005), and a group without enough controls is
  `uncalibrated`: controls of other kinds are what it cannot be compared with.
- Where no text could be `memorized` whatever its statistic, because even above all controls its p-value is
  above `fdr`, the verdict is `uncalibrated` and not `not_shown`: "not shown" says that it could have been.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workers.science.calibration.comparison import ComparisonCheck, ShownText
from workers.science.calibration.conformal import (
    conformal_p_values,
    controls_needed,
    discoveries_needed,
    is_discovery,
    q_values,
)
from workers.science.calibration.exchangeability import difference_p_value
from workers.science.calibration.grounds import (
    CalibrationTexts,
    Codes,
    Comparison,
    Floats,
    Grounds,
    Places,
    Reason,
    compare,
    find_grounds,
    places_to_show,
    stratum_numbers,
)
from workers.science.calibration.strata import LEFT_OUT
from workers.science.statistics.intervals import MeanEstimate, Moments, gain_within

Verdict = Literal["memorized", "not_shown", "uncalibrated"]

# Values between two looks at whether the work should go on.
_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """The findings of an audited set.

    Attributes:
        p_values: conformal, in (0, 1]: (1 + controls at or above) / (controls + 1), within the text's group
            and stratum if there are some; NaN where the verdict is `uncalibrated` [audited].
        q_values: Benjamini and Hochberg's, in (0, 1]: the least `fdr` at which the text is `memorized`; NaN
            where the verdict is `uncalibrated` [audited].
        fdr: the share of false ones among `memorized` that is accepted, in (0, 1).
        n_audited: audited texts.
        n_controls: controls.
        memorized: how many of the audited texts are `memorized`.
        uncalibrated: how many are `uncalibrated`: all, if there is a `reason`, else those in groups or strata
            that have too few controls.
        effect: mean statistic of audited texts less that of controls, with its 95 % interval; within strata
            if there are some, and then of the texts in them. Positive = more memorized. None without texts or
            controls. Known also where there is a `reason`: a fact of these texts, but no measure of
            memorization.
        permutation_p: of such an effect or a greater one if texts and controls are exchangeable, in (0, 1];
            one-sided. None where there is a `reason`.
        permutations: how many it rests on; 0 = a normal distribution with the moments of all permutations,
            for many texts. None where there is a `reason`.
        least_p: the least p_value that a text could have, 1 / (controls + 1), of the largest stratum. None
            where there is a `reason`.
        least_p_of_all: the same of the smallest stratum with audited texts: a p_value that every text can
            have which has one at all. None where there is a `reason`.
        least_memorized: how many texts must be above all controls before one of them is `memorized`; 1 = each
            can be on its own. None where there is a `reason`.
        check: of the comparison of all texts, within groups if they count. None without texts or controls.
        groups: how many groups the texts were compared within; None if groups did not count, or where there
            is a `reason`.
        strata: how many strata the texts were compared within, of all groups together; 1, or as many as
            `groups`, = none were needed. None where there is a `reason`.
        check_within_strata: the check again, within strata; None if none were needed or could be made.
        reason: why all verdicts are `uncalibrated`; None if they are not. `too_few_controls`: fewer than
            1 / fdr - 1, in each group. `too_few_texts`: the comparison cannot be checked with fewer than five
            of a kind that are no near-duplicates. `controls_differ`: the check did not pass, nor within
            strata.
    """

    p_values: Floats
    q_values: Floats
    fdr: float
    n_audited: int
    n_controls: int
    memorized: int
    uncalibrated: int
    effect: MeanEstimate | None
    permutation_p: float | None
    permutations: int | None
    least_p: float | None
    least_p_of_all: float | None
    least_memorized: int | None
    check: ComparisonCheck | None
    groups: int | None
    strata: int | None
    check_within_strata: ComparisonCheck | None
    reason: Reason | None

    @property
    def verdicts(self) -> list[Verdict]:
        """`memorized` if the q-value is at most `fdr`, `not_shown` if above, `uncalibrated` without one."""
        names: tuple[Verdict, ...] = ("uncalibrated", "not_shown", "memorized")
        known = np.isfinite(self.q_values).astype(int)
        return [names[each] for each in known + is_discovery(self.q_values, self.fdr)]


def calibrate(
    audited: CalibrationTexts,
    controls: CalibrationTexts,
    shown: tuple[Sequence[ShownText], Sequence[ShownText]],
    *,
    fdr: float,
    seed: int,
    on_progress: Callable[[], object] = lambda: None,
) -> Calibration:
    """Judge each audited text by controls that the model never saw.

    Args:
        audited: the texts to judge; may be empty.
        controls: texts that the model never saw, of the same kind as the audited ones; may be empty.
        shown: the texts at the places of `places_to_show`, audited ones and controls.
        fdr: the share of false ones among `memorized` that is accepted, in (0, 1).
        seed: of all that is drawn at random, at least 0. The same texts, fdr and seed give the same result.
        on_progress: called now and then; may raise to stop.

    Raises:
        ValueError: Only one kind has references, or an fdr outside (0, 1).
    """
    if not 0 < fdr < 1:
        raise ValueError("fdr must be between 0 and 1")
    comparison = compare(audited, controls, controls_needed(fdr))
    at_audited, at_controls = places_to_show(audited, controls, seed=seed)
    places = np.append(at_audited, at_controls + len(audited))
    texts = [*shown[0], *shown[1]]
    grounds = find_grounds(comparison, places, texts, controls_needed(fdr), seed)
    on_progress()
    if grounds.strata is None:
        return _without_verdicts(comparison, grounds, fdr, on_progress)
    return _with_verdicts(comparison, grounds, grounds.strata, fdr, seed, on_progress)


def _without_verdicts(
    comparison: Comparison, grounds: Grounds, fdr: float, on_progress: Callable[[], object]
) -> Calibration:
    labels = comparison.labels
    n_audited = int(labels.sum())
    unknown = np.full(n_audited, np.nan)
    return Calibration(
        p_values=unknown,
        q_values=unknown,
        fdr=fdr,
        n_audited=n_audited,
        n_controls=len(labels) - n_audited,
        memorized=0,
        uncalibrated=n_audited,
        effect=_effect(comparison, [np.arange(len(labels))], on_progress),
        permutation_p=None,
        permutations=None,
        least_p=None,
        least_p_of_all=None,
        least_memorized=None,
        check=grounds.check,
        groups=None,
        strata=None,
        check_within_strata=grounds.check_within_strata,
        reason=grounds.reason,
    )


def _with_verdicts(
    comparison: Comparison,
    grounds: Grounds,
    strata: Codes,
    fdr: float,
    seed: int,
    on_progress: Callable[[], object],
) -> Calibration:
    labels = comparison.labels
    blocks = [np.flatnonzero(strata == stratum) for stratum in stratum_numbers(strata)]
    p_values = np.full(len(labels), np.nan)
    for block in blocks:
        audited, controls = block[labels[block]], block[~labels[block]]
        p_values[audited] = conformal_p_values(
            comparison.statistics[audited], comparison.statistics[controls]
        )
        on_progress()
    p_values = p_values[labels]
    known = np.isfinite(p_values)
    found = np.full(len(p_values), np.nan)
    found[known] = q_values(p_values[known])
    compared = int(known.sum())
    compared_with = [int((~labels[block]).sum()) for block in blocks if labels[block].any()]
    least_p = 1 / (1 + max(compared_with))
    random = np.random.default_rng([seed, 2])
    difference = difference_p_value(comparison.statistics, labels, blocks, random, on_progress)
    return Calibration(
        p_values=p_values,
        q_values=found,
        fdr=fdr,
        n_audited=len(found),
        n_controls=len(labels) - len(found),
        memorized=int(is_discovery(found, fdr).sum()),
        uncalibrated=len(found) - compared,
        effect=_effect(comparison, blocks, on_progress),
        permutation_p=difference.p_value,
        permutations=difference.permutations,
        least_p=least_p,
        least_p_of_all=1 / (1 + min(compared_with)),
        least_memorized=discoveries_needed(least_p, compared, fdr),
        check=grounds.check,
        groups=None if grounds.check_within_strata is None else _groups_of(comparison, strata),
        strata=len(blocks),
        check_within_strata=grounds.check_within_strata,
        reason=None,
    )


def _groups_of(comparison: Comparison, strata: Codes) -> int | None:
    return len(np.unique(comparison.kinds[strata != LEFT_OUT])) if comparison.grouped else None


def _effect(
    comparison: Comparison, blocks: Sequence[Places], on_progress: Callable[[], object]
) -> MeanEstimate | None:
    """How far audited texts are above controls, within blocks."""
    statistics, labels = comparison.statistics, comparison.labels

    def moments(places: Places) -> Moments:
        return Moments.of(_in_parts(statistics[places], on_progress))

    return gain_within([(moments(block[~labels[block]]), moments(block[labels[block]])) for block in blocks])


def _in_parts(values: Floats, on_progress: Callable[[], object]) -> Iterator[float]:
    for first in range(0, len(values), _AT_ONCE):
        on_progress()
        yield from values[first : first + _AT_ONCE].tolist()
