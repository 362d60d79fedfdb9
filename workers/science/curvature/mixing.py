"""Curvature of two text sets as that of one, in a proportion that can be changed without collecting again."""

from collections.abc import Mapping
from math import hypot

import torch
from torch import Tensor

from workers.science.curvature.kfac import Factors

_Mixed = tuple[Tensor, float | None]


def mixed_factors(
    first: Mapping[str, Factors], second: Mapping[str, Factors], weight: float
) -> dict[str, Factors]:
    """The factors of a text with a share `weight` of its tokens from the second set, the rest from the first.

    Both factors are means over tokens, so that each side is (1 - w) F1 + w F2 (arXiv 2510.24256 for one set
    alone). With w the second set's share of all tokens it is what one collection over both would give.

    Args:
        first: factors by projections' keys.
        second: the same of the other text set.
        weight: w in [0, 1]; at 0 and 1 the very tensors of one set come back.

    Returns:
        By the same keys. `tokens` are the effective sample size (Kish, Survey Sampling, 1965, section 11.7)
        of a mean that weighs sets of n1 and n2 tokens so: 1 / ((1 - w)^2 / n1 + w^2 / n2), which is n1 + n2
        for the share above. Errors are those of a weighted sum of two independent means; None where a set of
        some weight has none. Sides that several projections share are shared again.

    Raises:
        ValueError: the weight is outside [0, 1].
        KeyError: a projection of the first set is not in the second.
    """
    if not 0 <= weight <= 1:
        raise ValueError("the weight of a set must be in [0, 1]")
    if weight in {0, 1}:
        return dict(second if weight else first)
    shared: dict[tuple[int, int], _Mixed] = {}
    found = {}
    for key, one in first.items():
        other = second[key]
        sides = (one.activations, other.activations)
        place = (id(sides[0]), id(sides[1]))
        if place not in shared:
            errors = (one.activations_error, other.activations_error)
            shared[place] = _mixed(*sides, *errors, weight)
        activations, activations_error = shared[place]
        gradients, gradients_error = _mixed(
            one.gradients, other.gradients, one.gradients_error, other.gradients_error, weight
        )
        tokens = round(1 / ((1 - weight) ** 2 / one.tokens + weight**2 / other.tokens))
        found[key] = Factors(activations, gradients, tokens, activations_error, gradients_error)
    return found


def _mixed(
    first: Tensor, second: Tensor, first_error: float | None, second_error: float | None, weight: float
) -> _Mixed:
    """One side [D, D], and its standard error relative to its size."""
    mixture = torch.lerp(first, second, weight)
    if first_error is None or second_error is None:
        return mixture, None
    norm = _norm(mixture)
    absolute = hypot((1 - weight) * first_error * _norm(first), weight * second_error * _norm(second))
    return mixture, absolute / norm if norm else 0.0


def _norm(matrix: Tensor) -> float:
    """The Frobenius norm."""
    return float(torch.linalg.matrix_norm(matrix))
