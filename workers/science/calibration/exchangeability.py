"""One-sided permutation tests of whether texts and controls can be exchanged, within blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Labels = npt.NDArray[np.bool_]
Block = npt.NDArray[np.intp]
# Permutations of a test: as many as take this many labels, within bounds, and how many of these at once.
_LABELS = 30_000_000
_LABELS_AT_ONCE = 3_000_000
_MOST = 9_999
_LEAST = 999
# Of more texts, and this many of the rarer kind, the mean of permuted labels is as good as normal.
_MANY = 100_000
_MANY_OF_A_KIND = 1_000
# Numbers that differ by less, relative to their size, are equal but for the order of a sum.
_ROUNDING = 1e-9


def permuted(
    labels: Labels, blocks: Sequence[Block], count: int, random: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """The labels, and `count` permutations of them within each block [texts, 1 + count]."""
    columns = np.repeat(labels[:, None], 1 + count, axis=1)
    for block in blocks:
        columns[block, 1:] = random.permuted(columns[block, 1:], axis=0)
    return columns


def p_value(observed: float, drawn: npt.NDArray[np.float64]) -> float:
    """(1 + drawn ones at or above) / (drawn ones + 1), in (0, 1] (Phipson and Smyth 2010)."""
    tolerance = _ROUNDING * max(abs(observed), float(np.abs(drawn).max(initial=0.0)))
    return (1 + int((drawn >= observed - tolerance).sum())) / (len(drawn) + 1)


@dataclass(frozen=True, slots=True)
class Difference:
    """A p-value in (0, 1], and of how many permutations it is; 0 = of the moments of all of them."""

    p_value: float
    permutations: int


def difference_p_value(
    statistics: npt.NDArray[np.float64],
    labels: Labels,
    blocks: Sequence[Block],
    random: np.random.Generator,
    on_progress: Callable[[], object] = lambda: None,
) -> Difference:
    """How often labels dealt anew within blocks give as great a difference of means, or a greater one.

    With one block it is scipy's `permutation_test`, `alternative="greater"`. Above 100,000 texts, 1,000 of
    the rarer kind among them, it is the upper tail of a normal distribution that has the mean and variance of
    all permutations (Hájek 1960), and at least 1 / 10,000, as of 9,999 permutations.

    Args:
        statistics: higher = more memorized [texts].
        labels: True for audited texts [texts].
        blocks: the places of the texts of each block; a difference is within blocks, and its mean is over the
            audited texts. Each has texts of both kinds.
        random: the source of the permutations.
        on_progress: called now and then; may raise to stop.
    """
    texts, audited = sum(map(len, blocks)), sum(int(labels[block].sum()) for block in blocks)
    if texts > _MANY and min(audited, texts - audited) >= _MANY_OF_A_KIND:
        return Difference(max(_normal_p_value(statistics, labels, blocks), 1 / (_MOST + 1)), 0)
    count = int(np.clip(_LABELS // len(labels), _LEAST, _MOST))
    at_once = max(1, _LABELS_AT_ONCE // len(labels))
    parts = []
    for first in range(0, count, at_once):
        on_progress()
        parts.append(_differences(statistics, labels, blocks, min(at_once, count - first), random))
    drawn = np.concatenate([part[1:] for part in parts])
    return Difference(p_value(float(parts[0][0]), drawn), count)


def _normal_p_value(statistics: npt.NDArray[np.float64], labels: Labels, blocks: Sequence[Block]) -> float:
    """By the exact variance of a sum of values drawn without replacement, in each block."""
    difference = variance = 0.0
    for block in blocks:
        values, own = statistics[block], labels[block]
        n, audited = len(block), int(own.sum())
        difference += audited * float(values[own].mean() - values[~own].mean())
        variance += audited * n**2 / ((n - audited) * (n - 1)) * float(values.var())
    return float(stats.norm.sf(difference / variance**0.5)) if variance > 0 else 1.0


def _differences(
    statistics: npt.NDArray[np.float64],
    labels: Labels,
    blocks: Sequence[Block],
    count: int,
    random: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Of the labels as they are, and of `count` permutations [1 + count]."""
    columns = permuted(labels, blocks, count, random)
    total = np.zeros(1 + count)
    for block in blocks:
        audited = int(labels[block].sum())
        of_audited = statistics[block] @ columns[block]
        of_controls = statistics[block].sum() - of_audited
        total += of_audited - audited * of_controls / (len(block) - audited)
    return np.asarray(total / labels.sum())
