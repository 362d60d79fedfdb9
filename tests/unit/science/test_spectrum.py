import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.science.curvature.spectrum import pairs_holding, select_top_mass


def kept_by_a_full_sort(outputs, inputs, keep_mass):
    """The oracle: all float64 products, sorted stably, added up in order until the mass is reached."""
    products = np.outer(outputs, inputs).ravel()
    order = np.argsort(-products, kind="stable")
    target = keep_mass * products.sum()
    count = int(np.searchsorted(np.cumsum(products[order]), target)) + 1
    kept = np.zeros(products.shape, dtype=bool)
    kept[order[:count]] = True
    return kept.reshape(len(outputs), len(inputs))


def kept_by_us(outputs, inputs, keep_mass):
    pairs = select_top_mass(torch.from_numpy(outputs), torch.from_numpy(inputs), keep_mass)
    kept = np.arange(len(inputs)) < pairs.kept_per_output.numpy()[:, None]
    assert pairs.kept == kept.sum()
    assert pairs.total == kept.size
    products = np.outer(outputs, inputs)
    assert pairs.kept_mass == pytest.approx(products[kept].sum() / products.sum(), rel=1e-12)
    return kept


def descending(values):
    return np.sort(np.asarray(values, dtype=np.float64))[::-1].copy()


# Whole numbers and a share in 1/64ths: every sum is exact, so the sets must be equal, ties included.
@settings(max_examples=300, deadline=None)
@given(
    outputs=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    inputs=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    share=st.integers(1, 63),
)
def test_kept_set_is_that_of_a_full_sort_with_ties(outputs, inputs, share):
    outputs, inputs = descending(outputs), descending(inputs)
    if outputs[0] * inputs[0] == 0:
        with pytest.raises(ValueError, match="no mass"):
            select_top_mass(torch.from_numpy(outputs), torch.from_numpy(inputs), share / 64)
        return
    ours = kept_by_us(outputs, inputs, share / 64)
    assert (ours == kept_by_a_full_sort(outputs, inputs, share / 64)).all()


@pytest.mark.parametrize("keep_mass", [0.01, 0.3, 0.6, 0.9, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("seed", range(5))
def test_kept_set_is_that_of_a_full_sort_on_random_spectra(keep_mass, seed):
    generator = np.random.default_rng(seed)
    outputs = descending(generator.lognormal(0, 3, size=57))
    inputs = descending(generator.lognormal(0, 2, size=83))
    assert (kept_by_us(outputs, inputs, keep_mass) == kept_by_a_full_sort(outputs, inputs, keep_mass)).all()


def test_pairs_that_hold_a_share_are_those_of_a_full_sort():
    generator = np.random.default_rng(1)
    outputs = descending(generator.lognormal(0, 3, size=31))
    inputs = descending(generator.lognormal(0, 2, size=17))
    masses = [0.1, 0.5, 0.9, 0.999]
    held = pairs_holding(torch.from_numpy(outputs), torch.from_numpy(inputs), masses)
    assert held == [kept_by_a_full_sort(outputs, inputs, mass).sum() for mass in masses]


def test_equal_products_are_kept_row_by_row():
    ones = torch.ones(3, dtype=torch.float64)
    assert select_top_mass(ones, ones, 4 / 9).kept_per_output.tolist() == [3, 1, 0]
    # Products 4 2 2 / 2 1 1 / 2 1 1: the five largest are 4 and the four 2s, of which the first three stay.
    values = torch.tensor([2.0, 1.0, 1.0])
    assert select_top_mass(values, values, 10 / 16).kept_per_output.tolist() == [3, 1, 0]


def test_mass_that_is_reached_exactly_takes_no_further_pair():
    assert select_top_mass(torch.tensor([1.0]), torch.tensor([3.0, 1.0]), 0.75).kept_per_output.tolist() == [
        1
    ]
    # Products 9 3 / 3 1: 15 of 16 are all but the last.
    pairs = select_top_mass(torch.tensor([3.0, 1.0]), torch.tensor([3.0, 1.0]), 15 / 16)
    assert (pairs.kept_per_output.tolist(), pairs.kept_mass) == ([2, 1], 15 / 16)


def test_the_whole_mass_keeps_even_pairs_without_any():
    pairs = select_top_mass(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]), 1.0)
    assert pairs.kept_per_output.tolist() == [3, 3]
    assert (pairs.kept, pairs.total, pairs.kept_mass) == (6, 6, 1.0)


def test_just_below_the_whole_mass_drops_pairs_without_any():
    pairs = select_top_mass(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1e-3, 0.0]), 1 - 1e-12)
    assert pairs.kept_per_output.tolist() == [2, 0]


@pytest.mark.parametrize("keep_mass", [0.0, -0.1, 1.0000001, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(keep_mass):
    with pytest.raises(ValueError, match="keep_mass"):
        select_top_mass(torch.ones(2), torch.ones(2), keep_mass)


@pytest.mark.parametrize("spectrum", [[1.0, 2.0], [1.0, -1.0], [float("nan"), 0.0], [float("inf"), 0.0], []])
def test_a_spectrum_that_does_not_descend_to_zero_is_refused(spectrum):
    with pytest.raises(ValueError, match="spectrum"):
        select_top_mass(torch.ones(2), torch.tensor(spectrum), 0.5)


def test_memory_is_that_of_the_spectra_not_of_their_products():
    outputs = torch.from_numpy(descending(np.random.default_rng(0).exponential(size=4096)))
    inputs = torch.from_numpy(descending(np.random.default_rng(1).exponential(size=11008)))
    tracemalloc.start()
    try:
        select_top_mass(outputs, inputs, 0.6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20  # all products would be 344 MiB
