"""What audited texts and controls are compared within: all together, or strata; or why they cannot be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workers.science.calibration.comparison import (
    MOST_TEXTS,
    ComparisonCheck,
    SampledTexts,
    ShownText,
    sample_texts,
)
from workers.science.calibration.strata import LEFT_OUT, stratify

# Why no text has a verdict.
Reason = Literal["too_few_controls", "too_few_texts", "controls_differ"]

Places = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int_]
Floats = npt.NDArray[np.float64]

# Strata that leave out more of the audited texts do not speak for them.
_LEAST_COMPARABLE = 0.5
_FEWEST_STRATA = 2


@dataclass(frozen=True, slots=True)
class CalibrationTexts:
    """The numbers of the audited texts, or of the controls.

    Attributes:
        statistics: higher = more memorized, finite [texts]; `nl`, or with a reference model `nl` less the
            reference's.
        n_tokens: lengths, at least 1 [texts].
        reference: `nl` under the reference model, finite [texts]; None without one. Both kinds have it, or
            none.
        groups: the number of each text's group, the same for audited texts and controls [texts]; None if
            groups are not known. They count only if both kinds have them and share one.
    """

    statistics: Floats
    n_tokens: Codes
    reference: Floats | None = None
    groups: Codes | None = None

    def __len__(self) -> int:
        """How many texts there are."""
        return len(self.statistics)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Audited texts, then controls.

    Attributes:
        labels: True for audited texts [texts].
        statistics: higher = more memorized [texts].
        n_tokens: lengths [texts].
        reference: `nl` under the reference model [texts], if there is one.
        kinds: the number of each text's group, LEFT_OUT if that has too few controls [texts]; all the same if
            groups do not count.
        grouped: whether groups count.
    """

    labels: npt.NDArray[np.bool_]
    statistics: Floats
    n_tokens: Codes
    reference: Floats | None
    kinds: Codes
    grouped: bool


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the check of a comparison left standing: strata, or the reason why there are none."""

    check: ComparisonCheck | None = None
    check_within_strata: ComparisonCheck | None = None
    strata: Codes | None = None
    reason: Reason | None = None


def places_to_show(
    audited: CalibrationTexts, controls: CalibrationTexts, *, seed: int
) -> tuple[Places, Places]:
    """Where the texts stand that the check of the comparison reads: up to 400 of each kind, in order.

    The same numbers and seed give the same places.
    """
    random = np.random.default_rng([seed, 0])
    drawn = [
        np.sort(random.choice(len(side), min(MOST_TEXTS, len(side)), replace=False))
        for side in (audited, controls)
    ]
    return drawn[0], drawn[1]


def compare(audited: CalibrationTexts, controls: CalibrationTexts, least_controls: int) -> Comparison:
    """Put audited texts and controls side by side. A group with fewer than `least_controls` is left out.

    Raises:
        ValueError: Only one kind has references.
    """
    if (audited.reference is None) != (controls.reference is None) and len(audited) and len(controls):
        raise ValueError("all texts have a reference likelihood, or none")
    labels = np.arange(len(audited) + len(controls)) < len(audited)
    references = [side.reference for side in (audited, controls) if side.reference is not None]
    kinds, grouped = _kinds(audited.groups, controls.groups, labels, least_controls)
    return Comparison(
        labels=labels,
        statistics=np.append(audited.statistics, controls.statistics),
        n_tokens=np.append(audited.n_tokens, controls.n_tokens),
        reference=np.concatenate(references) if references else None,
        kinds=kinds,
        grouped=grouped,
    )


def _kinds(
    audited: Codes | None, controls: Codes | None, labels: npt.NDArray[np.bool_], least_controls: int
) -> tuple[Codes, bool]:
    """What each text may be compared with, and whether that is its group."""
    if audited is None or controls is None or not np.isin(audited, controls).any():
        return np.zeros(len(labels), dtype=np.int_), False
    names, kinds = np.unique(np.append(audited, controls), return_inverse=True)
    n_audited, n_controls = (np.bincount(kinds[side], minlength=len(names)) for side in (labels, ~labels))
    usable = (n_controls >= least_controls) & (n_audited > 0)
    return np.where(usable[kinds], kinds, LEFT_OUT), True


def find_grounds(
    comparison: Comparison, places: Places, shown: Sequence[ShownText], least_controls: int, seed: int
) -> Grounds:
    """Check the comparison of all texts, and if that does not pass, within strata.

    Both checks draw the same folds and permutations from texts that are strewn the same way.

    Args:
        comparison: of all texts.
        places: where among them those stand that are shown; see `places_to_show`.
        shown: the texts at these places.
        least_controls: how many a stratum needs.
        seed: of what is drawn at random, at least 0.
    """
    labels = comparison.labels
    if labels.all() or not labels.any():
        return Grounds(reason="too_few_controls" if labels.all() else "too_few_texts")
    sampled = sample_texts(shown, comparison.n_tokens[places], labels[places])
    together = np.zeros(len(labels), dtype=np.int_)
    check = _check_within(sampled, together, places, seed)
    if (~labels).sum() < least_controls:
        return Grounds(check, reason="too_few_controls")
    if check.auc is None:
        return Grounds(check, reason="too_few_texts")
    if check.passed:
        return Grounds(check, strata=together)
    strata = _stratify(comparison, least_controls)
    compared = labels & (strata != LEFT_OUT)
    # In one stratum the same texts would be checked anew.
    if _count(strata) < _FEWEST_STRATA or compared.sum() < _LEAST_COMPARABLE * labels.sum():
        return Grounds(check, reason="controls_differ")
    within = _check_within(sampled, strata, places, seed)
    reason: Reason | None = None if within.passed else "controls_differ"
    return Grounds(check, within, strata if within.passed else None, reason)


def _check_within(sampled: SampledTexts, strata: Codes, places: Places, seed: int) -> ComparisonCheck:
    return sampled.check(strata[places], np.random.default_rng([seed, 1]))


def _stratify(comparison: Comparison, least_controls: int) -> Codes:
    """Strata within each group, or the group itself if it has too few texts for two [texts]."""
    strata = np.full(len(comparison.labels), LEFT_OUT)
    for kind in stratum_numbers(comparison.kinds):
        inside = np.flatnonzero(comparison.kinds == kind)
        own = stratify(
            comparison.n_tokens[inside],
            None if comparison.reference is None else comparison.reference[inside],
            comparison.labels[inside],
            least_controls=least_controls,
        )
        if own is None:
            strata[inside] = strata.max() + 1
        else:
            strata[inside] = np.where(own == LEFT_OUT, LEFT_OUT, own + strata.max() + 1)
    return strata


def stratum_numbers(strata: Codes) -> Codes:
    """The numbers of the strata that have texts, ascending [strata]."""
    return np.unique(strata[strata != LEFT_OUT])


def _count(strata: Codes) -> int:
    return len(stratum_numbers(strata))
