"""What is doubtful about curvature before anything is projected: too little text, or text that disagrees."""

from collections.abc import Mapping
from typing import Any, Final

from workers.science.curvature.kfac import Factors

JSONObject = dict[str, Any]

# Eigenvalues of a covariance of D dimensions over n tokens lie within (1 +- sqrt(D / n))^2 times the true
# ones where these are alike (Marchenko and Pastur 1967): from 0.7 to 1.3 times them with 40 tokens for each.
_ENOUGH_TOKENS: Final = 40
# As `mean_of_halves` tells it.
_SETTLED: Final = 0.1


def curvature_warnings(factors: Mapping[str, Factors]) -> list[JSONObject]:
    """Warnings as a receipt has them, of the factors that an edit works on; none if nothing is doubtful.

    Args:
        factors: by projections' keys, mixed already.
    """
    tokens = min(each.tokens for each in factors.values())
    dimensions = max(max(len(each.activations), len(each.gradients)) for each in factors.values())
    errors = (error for each in factors.values() for error in (each.activations_error, each.gradients_error))
    largest = max((error for error in errors if error is not None), default=None)
    found = []
    if tokens < dimensions:
        found.append(_fewer_tokens_than_dimensions(tokens, dimensions))
    elif tokens < _ENOUGH_TOKENS * dimensions:
        found.append(_few_tokens(tokens, dimensions))
    if largest is None:
        found.append(
            _warning("curvature_unknown", "There is too little text to tell how far it has settled.")
        )
    elif largest > _SETTLED:
        found.append(_unsettled(largest))
    return found


def _fewer_tokens_than_dimensions(tokens: int, dimensions: int) -> JSONObject:
    return _warning(
        "fewer_tokens_than_dimensions",
        f"Curvature of up to {dimensions:,} dimensions averages over {tokens:,} tokens: directions that none "
        f"of them reached are dropped whatever mass is kept. {_ENOUGH_TOKENS * dimensions:,} tokens of "
        "calibration text would be enough.",
    )


def _few_tokens(tokens: int, dimensions: int) -> JSONObject:
    return _warning(
        "few_tokens",
        f"Curvature of up to {dimensions:,} dimensions averages over {tokens:,} tokens, "
        f"{tokens / dimensions:.1f} for each: small curvature, which is what decides, is known badly. "
        f"{_ENOUGH_TOKENS * dimensions:,} tokens of calibration text would be enough.",
    )


def _unsettled(error: float) -> JSONObject:
    return _warning(
        "curvature_unsettled",
        f"Other text of the same kind would move the curvature of a matrix by about {error:.0%}: "
        "more calibration text, or text that is more alike, settles it.",
    )


def _warning(code: str, detail: str) -> JSONObject:
    return {"code": code, "detail": detail}
