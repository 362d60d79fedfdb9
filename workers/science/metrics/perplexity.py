"""Perplexity, without torch: summaries of stored rows need it too."""

import math
import sys
from typing import Final

_LARGEST_EXPONENT: Final = math.log(sys.float_info.max)


def perplexity(nl: float) -> float:
    """exp(-nl) for a mean log-likelihood per token in nats; at most the largest float."""
    return math.exp(min(-nl, _LARGEST_EXPONENT))
