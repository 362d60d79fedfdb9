"""What is doubtful about curvature. Oracles: the thresholds of docs/edits.md, from either side of each."""

import pytest
import torch

from workers.edits.curvature_warnings import curvature_warnings
from workers.science.curvature.kfac import Factors


def factors(
    tokens: int, inputs_error: float | None = 0.01, outputs_error: float | None = 0.01, outputs: int = 8
) -> Factors:
    """Of a matrix with three inputs."""
    return Factors(torch.eye(3), torch.eye(outputs), tokens, inputs_error, outputs_error)


def codes(**of_matrices: Factors) -> list[str]:
    return [warning["code"] for warning in curvature_warnings(of_matrices)]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (7, ["fewer_tokens_than_dimensions"]),
        (8, ["few_tokens"]),
        (319, ["few_tokens"]),
        (320, []),
    ],
)
def test_forty_tokens_for_each_dimension_are_enough(tokens: int, expected: list[str]) -> None:
    assert codes(one=factors(tokens)) == expected


def test_the_widest_side_of_all_matrices_and_the_least_text_count() -> None:
    assert codes(one=factors(1000), other=factors(1000, outputs=26)) == ["few_tokens"]
    assert codes(one=factors(1000), other=factors(1000, outputs=25)) == []
    assert codes(one=factors(1000), other=factors(300)) == ["few_tokens"]


@pytest.mark.parametrize("side", ["inputs_error", "outputs_error"])
def test_the_side_that_has_settled_least_counts(side: str) -> None:
    assert codes(one=factors(1000), other=factors(1000, **{side: 0.11})) == ["curvature_unsettled"]
    assert codes(one=factors(1000), other=factors(1000, **{side: 0.1})) == []
    # What one side does not know does not hide what the other does.
    hidden = factors(1000, None, 0.3) if side == "outputs_error" else factors(1000, 0.3, None)
    assert codes(one=hidden) == ["curvature_unsettled"]


def test_text_without_two_halves_says_so() -> None:
    assert codes(one=factors(1000, None, None)) == ["curvature_unknown"]


def test_numbers_are_told() -> None:
    few, unsettled = curvature_warnings({"one": factors(100, 0.25)})
    assert "8 dimensions" in few["detail"]
    assert "100 tokens, 12.5 for each" in few["detail"]
    assert "320 tokens of calibration text" in few["detail"]
    assert "25%" in unsettled["detail"]
