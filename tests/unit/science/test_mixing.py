"""Curvature of two text sets as one.

Oracles: a collection over both, cases by hand, known covariances drawn anew.
"""

from dataclasses import replace
from math import hypot, sqrt

import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.curvature.kfac import Factors, collect_factors
from workers.science.curvature.mixing import mixed_factors
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts


@pytest.fixture(scope="module")
def projections(llama):
    return find_projections(llama.model, layers=[0, 1])


@pytest.fixture(scope="module")
def blocks(llama):
    """About 2,000 tokens, none of them padding."""
    return pack_texts(llama, english_sentences()[:24], block_tokens=32).part(slice(0, 40))


@pytest.fixture(scope="module")
def parts(llama, blocks, projections):
    """Factors over the first quarter of the blocks and over the rest."""
    quarter = len(blocks) // 4
    return [
        collect_factors(llama, blocks.part(part), projections, labels="gold")
        for part in (slice(0, quarter), slice(quarter, len(blocks)))
    ]


def relative_error(ours, reference):
    return float((ours - reference).abs().max() / reference.abs().max())


def test_a_share_of_the_tokens_gives_what_a_collection_over_both_gives(llama, blocks, projections, parts):
    first, second = parts
    union = collect_factors(llama, blocks, projections, labels="gold")
    one, other = (next(iter(part.values())).tokens for part in parts)
    assert one != other
    mixed = mixed_factors(first, second, other / (one + other))
    for key, factors in union.items():
        assert relative_error(mixed[key].activations, factors.activations) < 1e-5
        assert relative_error(mixed[key].gradients, factors.gradients) < 1e-5
        assert mixed[key].tokens == factors.tokens == one + other
        # A set of either part is something else.
        assert relative_error(first[key].activations, factors.activations) > 1e-2


def covariance(rows):
    return rows.T @ rows / len(rows)


def factors_of(first_rows, second_rows, errors=(None, None)):
    return Factors(covariance(first_rows), covariance(second_rows), len(first_rows), *errors)


def test_in_float64_it_is_that_to_rounding():
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (7, 7, 20, 20)]
    mixed = mixed_factors({"p": factors_of(*rows[:2])}, {"p": factors_of(*rows[2:])}, 20 / 27)["p"]
    for ours, sides in ((mixed.activations, rows[::2]), (mixed.gradients, rows[1::2])):
        torch.testing.assert_close(ours, covariance(torch.cat(sides)), rtol=1e-14, atol=1e-14)


def test_no_weight_and_all_of_it_are_the_very_factors_of_one_set(parts):
    first, second = parts
    for weight, whole in ((0, first), (1, second)):
        mixed = mixed_factors(first, second, weight)
        assert mixed.keys() == whole.keys()
        assert all(mixed[key] is whole[key] for key in whole)


def test_what_projections_share_is_shared_by_the_mixture(parts):
    """Else it would be decomposed twice."""
    mixed = mixed_factors(*parts, 0.3)
    gate, up = (mixed[f"model.layers.0.mlp.{role}_proj"] for role in ("gate", "up"))
    assert gate.activations is up.activations
    assert gate.gradients is not up.gradients


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_errors_and_tokens_by_hand(weight):
    """Multiples of the identity, whose Frobenius norms are known."""
    eye = torch.eye(4)
    first = Factors(eye, 3 * eye, 100, 0.05, 0.1)
    second = Factors(2 * eye, eye, 300, 0.2, 0.4)
    mixed = mixed_factors({"p": first}, {"p": second}, weight)["p"]
    rest = 1 - weight
    torch.testing.assert_close(mixed.activations, (rest + 2 * weight) * eye)
    assert mixed.activations_error == pytest.approx(
        hypot(rest * 0.05, weight * 2 * 0.2) / (rest + 2 * weight)
    )
    assert mixed.gradients_error == pytest.approx(hypot(rest * 3 * 0.1, weight * 0.4) / (3 * rest + weight))
    # Kish: the square of the sum of all weights over the sum of their squares, one weight a token.
    weights = torch.tensor([rest / 100] * 100 + [weight / 300] * 300, dtype=torch.float64)
    assert mixed.tokens == round(float(weights.sum() ** 2 / weights.square().sum()))


def test_the_error_is_that_of_mixtures_drawn_anew():
    """Gaussian rows: E ||F - A||^2 = (tr(A)^2 + ||A||^2) / n for the mean F of n outer products."""
    generator = torch.Generator().manual_seed(5)
    scales = [torch.tensor([3.0, 1.0, 0.5]), torch.tensor([0.5, 2.0, 2.0])]
    counts, weight, draws = (40, 25), 0.35, 4000
    truths = [torch.diag(scale**2) for scale in scales]
    errors = [
        sqrt((float(truth.trace()) ** 2 + float(truth.square().sum())) / n) / float(truth.norm())
        for truth, n in zip(truths, counts, strict=True)
    ]
    sets = [Factors(truth, truth, n, e, e) for truth, n, e in zip(truths, counts, errors, strict=True)]
    predicted = mixed_factors({"p": sets[0]}, {"p": sets[1]}, weight)["p"]
    target = predicted.activations
    squared = 0.0
    for _ in range(draws):
        drawn = [
            covariance(torch.randn(n, 3, generator=generator) * scale)
            for n, scale in zip(counts, scales, strict=True)
        ]
        squared += float((torch.lerp(*drawn, weight) - target).square().sum()) / draws
    assert sqrt(squared) / float(target.norm()) == pytest.approx(predicted.activations_error, rel=0.03)


def test_an_error_that_one_set_does_not_know_is_not_known_of_both(parts):
    first, second = parts
    unknown = {key: replace(factors, activations_error=None) for key, factors in second.items()}
    mixed = next(iter(mixed_factors(first, unknown, 0.5).values()))
    assert mixed.activations_error is None
    assert mixed.gradients_error is not None


def test_weights_outside_and_projections_that_are_missing_are_refused(parts):
    first, second = parts
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="weight"):
            mixed_factors(first, second, weight)
    with pytest.raises(KeyError):
        mixed_factors(first, {}, 0.5)
