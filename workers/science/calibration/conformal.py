"""Conformal p-values, and q-values of many."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
# An fdr or a product of p-values may miss a whole ratio by rounding alone.
_ROUNDING = 1e-12


def conformal_p_values(audited: Floats, controls: Floats) -> Floats:
    """(1 + controls at or above the text) / (controls + 1), in (0, 1].

    A text that is exchangeable with the controls has a p-value of at most t with a probability of at most t,
    for every t, whatever the distribution (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random
    World). Ties count against the text. There are controls + 1 values, so that a level between two of them is
    reached less often: with 32 controls 0.05 is reached in one case of 33.

    Args:
        audited: statistics, higher = more memorized [m].
        controls: statistics of texts that the model never saw [n].

    Returns:
        One for each audited text [m].
    """
    at_or_above = len(controls) - np.searchsorted(np.sort(controls), audited, side="left")
    return (1 + at_or_above) / (len(controls) + 1)


def q_values(p_values: Floats) -> Floats:
    """Benjamini and Hochberg's (1995): the least false discovery rate at which each would be a discovery.

    Conformal p-values that share their controls depend on each other positively, so that it holds for them
    (Bates, Candès, Lei, Romano and Sesia 2023, Annals of Statistics 51: 149-178).

    Args:
        p_values: in (0, 1] [m].

    Returns:
        In (0, 1], in the same order [m].
    """
    return np.asarray(stats.false_discovery_control(p_values)) if len(p_values) else p_values


def controls_needed(fdr: float) -> int:
    """With fewer controls no p-value reaches `fdr`, and no q-value does, whatever the texts."""
    return math.ceil(1 / fdr - _ROUNDING / fdr) - 1


def is_discovery(q_values: Floats, fdr: float) -> npt.NDArray[np.bool_]:
    """Whether each q-value is at most `fdr`, but for rounding; NaN is not."""
    return np.asarray(q_values <= fdr * (1 + _ROUNDING))


def discoveries_needed(least_p: float, n: int, fdr: float) -> int:
    """How many of n texts must have the least p-value before one of them is a discovery."""
    return math.ceil(least_p * n / fdr * (1 - _ROUNDING))
