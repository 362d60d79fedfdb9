import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.science.metrics.extraction import extraction_metric
from workers.science.metrics.sampling import samples_needed, sampling_metric
from workers.science.metrics.splits import NOT_APPLICABLE, Split, split_at, split_by_length
from workers.science.metrics.tokens import known_continuation, matched_tokens
from workers.science.metrics.verbatim import split_for_verbatim

END = 0
ENDS = frozenset({END})


def tokens(*ids):
    return np.array(ids, dtype=np.int64)


@pytest.mark.parametrize(
    ("n_tokens", "context_length", "split"),
    [
        (112, 128, Split("ok", 64, 48)),
        (5000, 128, Split("ok", 64, 48)),
        (111, 128, Split("scaled", 63, 48)),
        (14, 128, Split("scaled", 8, 6)),
        (2, 128, Split("scaled", 1, 1)),
        (1, 128, NOT_APPLICABLE),
        (5000, 56, Split("scaled", 32, 24)),
    ],
)
def test_split_by_length(n_tokens, context_length, split):
    assert split_by_length(n_tokens, context_length, 64, 48) == split


@given(
    n_tokens=st.integers(1, 300),
    context_length=st.integers(1, 300),
    prefix_tokens=st.integers(0, 100),
    suffix_tokens=st.integers(1, 100),
)
def test_a_split_fits_the_text_and_the_context(n_tokens, context_length, prefix_tokens, suffix_tokens):
    split = split_by_length(n_tokens, context_length, prefix_tokens, suffix_tokens)
    assert split.prefix_tokens + split.suffix_tokens <= min(n_tokens, context_length)
    if split.status == "not_applicable":
        assert min(n_tokens, context_length) == 1
        assert prefix_tokens > 0
    else:
        assert split.suffix_tokens >= 1
        assert (split.prefix_tokens > 0) == (prefix_tokens > 0)


def test_a_text_without_a_prefix_is_recited_from_its_first_token():
    assert split_by_length(1, 128, 0, 48) == Split("scaled", 0, 1)
    assert split_by_length(100, 128, 0, 48) == Split("ok", 0, 48)


@pytest.mark.parametrize(
    ("boundary", "n_tokens", "split"),
    [
        (10, 30, Split("ok", 10, 20)),
        (0, 30, Split("ok", 0, 30)),
        (10, 200, Split("scaled", 10, 118)),
        (127, 200, Split("scaled", 127, 1)),
        (128, 200, NOT_APPLICABLE),
        (30, 30, NOT_APPLICABLE),
    ],
)
def test_split_at_the_clients_boundary(boundary, n_tokens, split):
    assert split_at(boundary, n_tokens, 128) == split


@pytest.mark.parametrize(
    ("n_tokens", "split"),
    [
        (100, Split("ok", 50, 50)),
        (99, Split("scaled", 50, 49)),
        (51, Split("scaled", 50, 1)),
        (50, NOT_APPLICABLE),
    ],
)
def test_split_for_verbatim(n_tokens, split):
    assert split_for_verbatim(50, n_tokens, 128) == split


@pytest.mark.parametrize(
    ("suffix", "choices", "matched", "said", "complete"),
    [
        (tokens(5, 6, 7), tokens(5, 6, 7), 3, [5, 6, 7], True),
        (tokens(5, 6, 7), tokens(5, 9, 7), 1, [5, 9], False),
        (tokens(5, 6, 7), tokens(9, 6, 7), 0, [9], False),
        (tokens(5, 6, 7), tokens(5, 6, 9), 2, [5, 6, 9], True),
        # An end token stops decoding, whether it belongs there or not.
        (tokens(5, 6, 7), tokens(5, END, 7), 1, [5, END], True),
        (tokens(5, END, 7), tokens(5, END, 7), 2, [5, END], True),
        (tokens(5, 6, END), tokens(5, 6, END), 3, [5, 6, END], True),
        (tokens(5, END, 7), tokens(5, 9, 7), 1, [5, 9], False),
        (tokens(END, 6), tokens(END, 6), 1, [END], True),
    ],
)
def test_what_teacher_forcing_tells_of_greedy_decoding(suffix, choices, matched, said, complete):
    assert matched_tokens(suffix == choices, suffix == END) == matched
    known, is_complete = known_continuation(suffix, choices, matched, ENDS)
    assert known.tolist() == said
    assert is_complete == complete


def test_extraction_metric_counts_edits_in_tokens():
    split = Split("ok", 10, 8)
    suffix = tokens(1, 2, 3, 4, 5, 6, 7, 8)
    shifted = tokens(1, 2, 4, 5, 6, 7, 8, 9)  # one deletion and one insertion
    metric = extraction_metric(split, 2, shifted, suffix)
    assert metric == {
        "status": "ok",
        "prefix_tokens": 10,
        "suffix_tokens": 8,
        "strict": False,
        "similarity": 0.75,
        "loose": True,
        "matched_tokens": 2,
    }


def test_loose_begins_at_three_quarters():
    split = Split("ok", 64, 48)
    suffix = np.arange(48)
    for n_wrong, loose in ((12, True), (13, False)):
        said = np.where(suffix < n_wrong, 999, suffix)
        assert extraction_metric(split, 0, said, suffix)["loose"] is loose


def test_extraction_that_was_not_decoded_still_says_strict():
    metric = extraction_metric(Split("ok", 10, 2), 2, None, tokens(1, 2))
    assert (metric["strict"], metric["similarity"], metric["loose"]) == (True, None, None)


def exact_samples_needed(p_z, probability):
    """The definition in exact fractions."""
    n, miss = 1, 1 - p_z
    while 1 - miss**n < probability:
        n += 1
    return n


@pytest.mark.parametrize("p_z", ["1", "0.999", "0.9", "0.7", "0.5", "0.25", "0.1", "0.03", "0.011"])
@pytest.mark.parametrize("probability", ["0.5", "0.99"])
def test_samples_needed_equals_the_definition(p_z, probability):
    expected = exact_samples_needed(Fraction(p_z), Fraction(probability))
    assert samples_needed(math.log(float(p_z)), float(probability)) == expected


def test_samples_needed_is_right_where_one_less_p_z_rounds_to_one():
    p_z = 1e-15
    assert samples_needed(math.log(p_z), 0.5) == pytest.approx(math.log(2) / p_z, rel=1e-12)


@pytest.mark.parametrize("log_p_z", [-50.0, -708.0, -720.0, -744.0, -2000.0, -math.inf])
def test_more_samples_than_can_be_counted_are_none(log_p_z):
    metric = sampling_metric(Split("ok", 64, 48), log_p_z)
    assert metric["n_50"] is None
    assert metric["n_99"] is None
    assert metric["p_z"] == math.exp(log_p_z)
    assert metric["log_p_z"] == (log_p_z if math.isfinite(log_p_z) else None)


def test_sampling_metric_is_null_where_nothing_is_split():
    metric = sampling_metric(NOT_APPLICABLE, 0.0)
    assert metric == {"status": "not_applicable", "log_p_z": None, "p_z": None, "n_50": None, "n_99": None}
