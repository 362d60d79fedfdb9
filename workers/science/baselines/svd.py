"""The baseline that knows nothing of the data: a weight cut to its largest singular values."""

import math

import torch
from torch import Tensor

from workers.science.curvature.spectrum import decomposition_dtype

# A share that was meant to give a whole rank may come out a little above it: 0.07 * 100 is not quite 7.
_ROUNDING = 1e-9


def truncate(weight: Tensor, ratio: float) -> tuple[Tensor, int]:
    """Keep the largest ceil(ratio * min(out, in)) singular values of `weight` [out, in], at least one.

    Returns:
        [out, in] in the dtype of the decomposition, float64 on a CPU and float32 on a GPU; and the rank.

    Raises:
        ValueError: if `ratio` is outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError("ratio must be above 0 and at most 1")
    rank = max(1, math.ceil(ratio * min(weight.shape) - _ROUNDING))
    left, values, right = torch.linalg.svd(
        weight.detach().to(decomposition_dtype(weight.device)), full_matrices=False
    )
    truncated: Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
    return truncated, rank
