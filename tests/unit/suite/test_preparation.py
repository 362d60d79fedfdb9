"""What a suite draws before training: held-out texts, tokenizer, sequences."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from workers.suite.corpus import Corpus
from workers.suite.errors import CorpusTooSmall
from workers.suite.preparation import PASSAGES, perturb, prepare
from workers.suite.sizes import SIZES
from workers.suite.tokenizer import END_OF_TEXT
from workers.suite.variants import Insertions, Variants, perturbed_models

OVERLAP_WORDS = 13


def normalised(text):
    return re.sub(r"\s+", " ", text).lower()


def test_held_out_texts_do_not_occur_in_the_background(prepared):
    """Oracle: every thirteen words in a row, searched for as a string in the decoded training data."""
    assert prepared.background.size > prepared.corpus_tokens
    seen = normalised(prepared.tokenizer.decode(prepared.background.flatten()))
    assert normalised("Return a tuple") in seen
    texts = [text.text for text in (*prepared.texts, *prepared.clean)]
    for words in (normalised(text).split() for text in texts):
        assert len(words) >= OVERLAP_WORDS
        runs = (words[first : first + OVERLAP_WORDS] for first in range(len(words) - OVERLAP_WORDS + 1))
        assert not [run for run in runs if " ".join(run) in seen]


def test_passages_allow_an_unscaled_extraction_split(prepared, small_corpus, tiny):
    passages = [text for text in prepared.texts if text.group == PASSAGES]
    lengths = [
        tokens.size
        for text, tokens in zip(prepared.texts, prepared.text_tokens, strict=True)
        if text.group == PASSAGES
    ]
    assert all(64 + 48 <= length <= tiny.context - 1 for length in lengths)
    for passage in passages:
        sources = [document for document in small_corpus.documents if document.startswith(passage.text)]
        assert any(not document[len(passage.text) :][:1].strip() for document in sources)


def test_each_group_has_the_levels_of_its_size(prepared, tiny):
    counts = Counter((text.group, text.duplicates) for text in prepared.texts)
    groups = {text.group for text in prepared.texts}
    assert groups == {"copyright/passages", "privacy/biographies", "test_set/multiple_choice"}
    expected = {(group, level): n for group in groups for level, n in tiny.levels.items() if n}
    assert counts == expected
    assert len({text.id for text in prepared.texts}) == len(prepared.texts)


def test_perturbed_sequences_hold_each_text_as_often_as_it_says(prepared, tiny):
    """Oracle: the decoded sequences, searched for the text between end-of-text tokens."""
    perturbed = perturb(prepared, Insertions("perturbed", tiny), seed=3)
    rows = [prepared.tokenizer.decode(row) for row in perturbed.sequences]
    for text in perturbed.texts:
        assert sum(f"{END_OF_TEXT}{text.text}{END_OF_TEXT}" in row for row in rows) == text.duplicates
    changed = np.any(perturbed.sequences != prepared.background, axis=1)
    assert changed.sum() == len(perturbed.insertions) == sum(text.duplicates for text in perturbed.texts)


def test_timing_runs_insert_the_same_copies_in_different_windows(prepared, tiny):
    runs = {plan.name: plan for plan in perturbed_models(tiny, Variants(timing=True))}
    early, late = (perturb(prepared, runs[f"timing/{window}"], seed=3) for window in ("0-25", "75-100"))
    assert early.texts == late.texts
    assert Counter(i.text for i in early.insertions) == Counter(i.text for i in late.insertions)
    assert {i.sequence for i in early.insertions} <= set(range(600))
    assert {i.sequence for i in late.insertions} <= set(range(1800, 2400))


def test_a_diluted_run_inserts_the_same_copies_in_twice_the_background(prepared, tiny):
    """Oracle: the counts of the perturbed run; every document comes as often again, in another order."""
    twice = replace(tiny, steps=2 * tiny.steps)
    perturbed = perturb(prepared, Insertions("perturbed", tiny), seed=3)
    thinner = perturb(prepared, Insertions("dilution", twice), seed=3)
    assert thinner.sequences.shape == (2 * tiny.sequences, tiny.context + 1)
    assert not np.array_equal(thinner.sequences[: tiny.sequences], perturbed.sequences)
    assert thinner.texts == perturbed.texts
    assert Counter(i.text for i in thinner.insertions) == Counter(i.text for i in perturbed.insertions)
    assert max(i.sequence for i in thinner.insertions) > tiny.sequences
    rows = [prepared.tokenizer.decode(row) for row in thinner.sequences]
    for text in thinner.texts:
        assert sum(f"{END_OF_TEXT}{text.text}{END_OF_TEXT}" in row for row in rows) == text.duplicates


def test_the_tokenizer_round_trips_and_adds_nothing(prepared):
    tokenizer = prepared.tokenizer
    text = "Zürich: 3 ÷ 4 = ¾\n\tdef f(): …"
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.eos_token_id not in tokens
    assert tokenizer.decode(tokens) == text
    assert tokenizer.bos_token is None
    assert tokenizer.eos_token == END_OF_TEXT
    assert len(tokenizer) == 1024


def test_another_seed_draws_other_texts_and_another_order(small_corpus, prepared, tiny):
    again, other = prepare(small_corpus, tiny, seed=3), prepare(small_corpus, tiny, seed=4)
    assert again.texts == prepared.texts
    assert again.clean == prepared.clean
    assert np.array_equal(again.background, prepared.background)
    assert not {text.text for text in other.texts} & {text.text for text in prepared.texts}
    assert not np.array_equal(other.background, prepared.background)


def test_a_corpus_without_long_documents_is_refused(tiny):
    with pytest.raises(CorpusTooSmall, match="--corpus"):
        prepare(Corpus("short", ("one", "two")), tiny, seed=0)


def test_passages_that_do_not_fit_the_context_are_refused(small_corpus, tiny):
    with pytest.raises(CorpusTooSmall, match="context of 100 tokens"):
        prepare(small_corpus, replace(tiny, context=100), seed=0)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_plan_fits_its_training(size):
    """At most one insertion a sequence, in the whole run and in a quarter of it."""
    groups = 3
    copies = groups * sum(level * count for level, count in size.levels.items())
    timing_copies = groups * sum(level * count for level, count in size.timing_levels.items())
    assert copies <= size.sequences
    assert timing_copies <= size.sequences // 4
    assert all(size.timing_levels[level] <= size.levels[level] for level in size.levels)
    counts = [size.levels[level] for level in sorted(size.levels)]
    assert counts == sorted(counts, reverse=True)
    assert size.batch % size.forward_batch == 0
