"""One-sided permutation tests of whether texts and controls can be exchanged, within blocks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.bool_]
Block = npt.NDArray[np.intp]
# Permutations of a test: as many as take this many labels, within bounds, and how many of these at once.
_LABELS = 30_000_000
_LABELS_AT_ONCE = 3_000_000
_MOST = 9_999
_LEAST = 999
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


def difference_p_value(
    statistics: npt.NDArray[np.float64],
    labels: Labels,
    blocks: Sequence[Block],
    random: np.random.Generator,
) -> float:
    """How often labels dealt anew within blocks give as great a difference of means, or a greater one.

    Args:
        statistics: higher = more memorized [texts].
        labels: True for audited texts [texts].
        blocks: the places of the texts of each block; a difference is within blocks, and its mean is over the
            audited texts. Each has texts of both kinds.
        random: the source of the permutations.

    Returns:
        In (0, 1]; with one block it is scipy's `permutation_test`, `alternative="greater"`.
    """
    count = int(np.clip(_LABELS // len(labels), _LEAST, _MOST))
    at_once = max(1, _LABELS_AT_ONCE // len(labels))
    parts = [
        _differences(statistics, labels, blocks, min(at_once, count - first), random)
        for first in range(0, count, at_once)
    ]
    return p_value(float(parts[0][0]), np.concatenate([part[1:] for part in parts]))


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
