import random
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows

from tests.tiny_models import one_thread
from workers.science.scoring.batching import Window, batch_by_length, cut_windows, map_on_cores

CPU = torch.device("cpu")
PREFIX = 1000


@given(n_tokens=st.integers(0, 200), context_length=st.integers(1, 50))
def test_windows_are_those_of_lm_evaluation_harness(n_tokens, context_length):
    tokens = list(range(n_tokens))
    stream = [PREFIX, *tokens]
    ours = [
        (stream[window.start : window.end], tokens[window.end - window.n_scored : window.end])
        for window in cut_windows(0, n_tokens, context_length, 1)
    ]
    theirs = get_rolling_token_windows(tokens, PREFIX, max_seq_len=context_length, context_len=1)
    assert ours == list(theirs)


@given(lengths=st.lists(st.integers(1, 60), max_size=60), budget=st.integers(1, 200))
def test_batches_hold_each_window_once_within_the_budget(lengths, budget):
    windows = [Window(text, 0, length, length) for text, length in enumerate(lengths)]
    batches = batch_by_length(windows, budget)
    assert sorted(window.text for batch in batches for window in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(map(len, batch))
        assert padded <= budget or len(batch) == 1


@given(
    lengths=st.lists(st.integers(1, 60), max_size=60), budget=st.integers(1, 200), multiple=st.integers(1, 5)
)
def test_few_batches_are_a_multiple_of_about_equal_size(lengths, budget, multiple):
    windows = [Window(text, 0, length, length) for text, length in enumerate(lengths)]
    filled, even = batch_by_length(windows, budget), batch_by_length(windows, budget, multiple=multiple)
    assert sorted(window.text for batch in even for window in batch) == list(range(len(lengths)))
    for batch in even:
        assert len(batch) * max(map(len, batch)) <= budget or len(batch) == 1
    assert len(filled) <= len(even) <= -(-len(filled) // multiple) * multiple
    if len(set(lengths)) == 1 and len(lengths) % len(even) == 0:
        assert len({len(batch) for batch in even}) == 1


def test_ten_batches_become_twelve_and_many_stay():
    equal = [Window(text, 0, 10, 10) for text in range(120)]
    assert [len(batch) for batch in batch_by_length(equal, 120, multiple=4)] == [10] * 12
    assert len(batch_by_length(equal, 30, multiple=7)) == 40


def test_padding_is_small_when_lengths_are_mixed():
    lengths = random.Random(0).choices(range(10, 250), k=800)
    windows = [Window(text, 0, length, length) for text, length in enumerate(lengths)]
    padded = sum(len(batch) * max(map(len, batch)) for batch in batch_by_length(windows, 2048))
    assert padded < 1.05 * sum(lengths)


def test_results_come_in_order_from_every_core():
    with one_thread():
        torch.set_num_threads(3)
        results = list(map_on_cores(lambda item: (item, torch.get_num_threads()), range(20), CPU))
        assert torch.get_num_threads() == 3
    assert results == [(item, 1) for item in range(20)]


def test_few_items_share_all_cores():
    with one_thread():
        torch.set_num_threads(4)
        results = list(map_on_cores(lambda _: torch.get_num_threads(), range(2), CPU))
        alone = list(map_on_cores(lambda _: torch.get_num_threads(), range(1), CPU))
    assert results == [2, 2]
    assert alone == [4]


def test_items_that_have_not_begun_are_dropped_when_the_consumer_stops():
    begun = []

    def work_for_a_while(item):
        begun.append(item)
        time.sleep(0.01)

    with one_thread():
        torch.set_num_threads(2)
        next(map_on_cores(work_for_a_while, range(10_000), CPU))
        assert torch.get_num_threads() == 2
    assert len(begun) < 1000


def test_an_error_reaches_the_consumer():
    def fail(item):
        raise LookupError(item)

    with one_thread():
        torch.set_num_threads(2)
        results = map_on_cores(fail, range(5), CPU)
        with pytest.raises(LookupError):
            next(results)
