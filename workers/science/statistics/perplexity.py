"""Perplexity: the exponential of a mean negative log-likelihood."""

import math
import sys

_LARGEST_EXPONENT = math.log(sys.float_info.max)


def perplexity(nl: float) -> float:
    """exp(-nl) for a mean log-likelihood per token in nats; at most the largest float."""
    return math.exp(min(-nl, _LARGEST_EXPONENT))
