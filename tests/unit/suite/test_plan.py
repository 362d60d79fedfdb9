"""The insertion rules, as properties. Oracle: each rule restated on the finished sequences."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.suite.errors import PlanTooLarge, TextTooLong
from workers.suite.plan import assign, insert, pack, splice, thin, window_sequences
from workers.suite.texts import Draft

END = 0
# Background tokens lie below this, each text's tokens above, so that a token tells where it came from.
FIRST_TEXT_TOKEN = 1000
TEXT_STRIDE = 100


def background(rng, sequences, width, longest_document):
    documents = [
        rng.integers(1, FIRST_TEXT_TOKEN, size=rng.integers(1, longest_document + 1)).astype(np.int32)
        for _ in range(20)
    ]
    return pack(documents, sequences, width, END, rng)


def text_tokens(number, length):
    return np.arange(length, dtype=np.int32) + FIRST_TEXT_TOKEN + TEXT_STRIDE * number


@st.composite
def plans(draw):
    width = draw(st.integers(6, 40))
    sequences = draw(st.integers(1, 30))
    lengths = draw(st.lists(st.integers(1, width - 2), min_size=1, max_size=6))
    first = draw(st.integers(0, sequences - 1))
    allowed = range(first, draw(st.integers(first + 1, sequences)))
    duplicates, left = [], len(allowed)
    for _ in lengths:
        duplicates.append(draw(st.integers(0, left)))
        left -= duplicates[-1]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    longest_document = draw(st.integers(1, 3 * width))
    texts = [text_tokens(number, length) for number, length in enumerate(lengths)]
    return background(rng, sequences, width, longest_document), texts, duplicates, allowed, rng


@settings(max_examples=200, deadline=None)
@given(plans())
def test_insertions_are_whole_counted_single_and_all_else_is_untouched(plan):
    sequences, texts, duplicates, allowed, rng = plan
    before = sequences.copy()
    perturbed, insertions = insert(sequences, texts, duplicates, allowed=allowed, end_of_text=END, rng=rng)

    assert np.array_equal(sequences, before)
    assert perturbed.shape == sequences.shape
    assert perturbed.dtype == sequences.dtype
    copies = Counter(insertion.text for insertion in insertions)
    assert [copies[text] for text in range(len(texts))] == duplicates
    touched = [insertion.sequence for insertion in insertions]
    assert len(set(touched)) == len(touched)
    assert set(touched) <= set(allowed)
    for insertion in insertions:
        row, text = perturbed[insertion.sequence], texts[insertion.text]
        inside = slice(insertion.start, insertion.start + text.size)
        assert np.array_equal(row[inside], text)
        assert row[inside.start - 1] == END
        assert row[inside.stop] == END
        assert np.count_nonzero(row >= FIRST_TEXT_TOKEN) == text.size
        assert lies_between_documents(
            sequences[insertion.sequence], row[: inside.start], row[inside.stop + 1 :]
        )
    untouched = np.setdiff1d(np.arange(len(sequences)), touched)
    assert np.array_equal(perturbed[untouched], sequences[untouched])


def lies_between_documents(original, left, right):
    """Whether the new sequence is the original one, opened at a document boundary and cut to length."""
    at_start = left.tolist() == [END] and np.array_equal(right, original[: right.size])
    boundaries = [place + 1 for place in range(original.size - 1) if original[place] == END]
    return at_start or any(
        np.array_equal(left, original[boundary - left.size : boundary])
        and np.array_equal(right, original[boundary : boundary + right.size])
        for boundary in boundaries
        if boundary >= left.size
    )


def test_splice_reaches_every_boundary_and_every_window():
    """Oracle: the outcomes for this sequence, written out by hand."""
    sequence = np.array([5, END, 6, END, 7], dtype=np.int32)
    text = np.array([1000, 1001], dtype=np.int32)
    rng = np.random.default_rng(0)
    seen = {(tuple(row), start) for row, start in (splice(sequence, text, END, rng) for _ in range(500))}
    assert seen == {
        ((END, 1000, 1001, END, 5), 1),
        ((5, END, 1000, 1001, END), 2),
        ((END, 1000, 1001, END, 6), 1),
        ((END, 1000, 1001, END, 7), 1),
        ((6, END, 1000, 1001, END), 2),
    }


def test_a_text_longer_than_a_sequence_is_refused():
    sequences = np.ones((2, 8), dtype=np.int32)
    with pytest.raises(TextTooLong, match="7 tokens does not fit into training sequences of 8"):
        insert(
            sequences,
            [text_tokens(0, 7)],
            [1],
            allowed=range(2),
            end_of_text=END,
            rng=np.random.default_rng(0),
        )


def test_more_copies_than_sequences_are_refused():
    sequences = np.ones((2, 8), dtype=np.int32)
    rng = np.random.default_rng(0)
    with pytest.raises(PlanTooLarge, match="3 copies do not fit into 2 training sequences"):
        insert(sequences, [text_tokens(0, 3)], [3], allowed=range(2), end_of_text=END, rng=rng)


def test_a_long_text_that_is_never_inserted_is_no_obstacle():
    sequences = np.ones((2, 8), dtype=np.int32)
    perturbed, insertions = insert(
        sequences, [text_tokens(0, 9)], [0], allowed=range(2), end_of_text=END, rng=np.random.default_rng(0)
    )
    assert np.array_equal(perturbed, sequences)
    assert insertions == []


def test_pack_shows_every_document_once_a_pass():
    """Oracle: the multiset of documents between end-of-text tokens."""
    rng = np.random.default_rng(1)
    documents = [text_tokens(number, number % 5 + 1) for number in range(12)]
    tokens = sum(document.size + 1 for document in documents)
    stream = pack(documents, 3, tokens, END, rng)
    for one_pass in stream:
        pieces = np.split(one_pass, np.flatnonzero(one_pass == END) + 1)[:-1]
        assert sorted(tuple(piece[:-1]) for piece in pieces) == sorted(map(tuple, documents))
    assert not np.array_equal(stream[0], stream[1])


def test_assignment_gives_each_level_its_texts_at_random():
    """Oracle: a fifth of the texts, so a fifth of 2,000 draws for one draft, within four deviations."""
    drafts = [Draft(f"text {number}") for number in range(10)]
    levels = {0: 5, 1: 3, 256: 2}
    often = 0
    for seed in range(2000):
        texts = assign("privacy/people", drafts, levels, np.random.default_rng(seed))
        assert Counter(text.duplicates for text in texts) == levels
        often += texts[0].duplicates == 256
    assert abs(often - 400) < 4 * np.sqrt(2000 * 0.2 * 0.8)
    assert [text.draft for text in texts] == drafts
    assert texts[3].id == "privacy-people-0003"


def test_thinned_texts_are_level_zero():
    drafts = [Draft(f"text {number}") for number in range(6)]
    rng = np.random.default_rng(0)
    texts = assign("a", drafts, {0: 1, 4: 3, 16: 2}, rng) + assign("b", drafts, {0: 1, 4: 3, 16: 2}, rng)
    thinned = thin(texts, {0: 0, 4: 1, 16: 2})
    for group in ("a", "b"):
        levels = Counter(text.duplicates for text in thinned if text.group == group)
        assert levels == {0: 3, 4: 1, 16: 2}
    assert all(
        after.duplicates in (0, before.duplicates) for before, after in zip(texts, thinned, strict=True)
    )
    assert [text.id for text in thinned] == [text.id for text in texts]


@pytest.mark.parametrize(
    ("window", "expected"),
    [((0.0, 1.0), range(80)), ((0.25, 0.5), range(16, 40)), ((0.5, 0.75), range(40, 64))],
)
def test_windows_are_whole_steps(window, expected):
    assert window_sequences(window, steps=10, batch=8) == expected
