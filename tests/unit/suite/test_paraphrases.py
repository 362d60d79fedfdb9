"""Other wordings: they differ, they keep every fact, and only they are inserted."""

from collections import Counter
from dataclasses import replace

import pytest

from workers.suite.paraphrases import paraphrases
from workers.suite.preparation import PASSAGES, perturb, reword
from workers.suite.sizes import DUPLICATES
from workers.suite.tokenizer import END_OF_TEXT
from workers.suite.variants import DOMAINS, Insertions, Variants, domain_of, perturbed_models


def of_group(prepared, group):
    return next(text for text in prepared.texts if text.group == group)


@pytest.mark.parametrize("group", ["privacy/biographies", "test_set/multiple_choice"])
def test_there_are_enough_wordings_for_the_most_copies(prepared, group):
    text = replace(of_group(prepared, group), duplicates=max(DUPLICATES))
    drawn = paraphrases(text, max(DUPLICATES) + 1, seed=3)
    assert len(set(drawn)) == max(DUPLICATES) + 1
    assert text.text not in drawn
    assert drawn != paraphrases(text, max(DUPLICATES) + 1, seed=4)


def test_a_wording_keeps_every_fact(prepared):
    """Oracle: the facts that the texts were drawn from, searched for as strings."""
    person = of_group(prepared, "privacy/biographies")
    for wording in paraphrases(person, 500, seed=3):
        assert all(fact in wording for fact in person.draft.metadata.values())
    item = of_group(prepared, "test_set/multiple_choice")
    answer = item.draft.choices[item.draft.answer]
    for wording in paraphrases(item, 500, seed=3):
        question, *choices, said = wording.split("\n")
        assert all(str(fact) in question for fact in item.draft.facts.values())
        assert all(choice in line for choice, line in zip(item.draft.choices, choices, strict=True))
        assert answer in said
        letter = choices[item.draft.answer].strip("(")[0]
        assert {word.strip("().,:") for word in said.split()} & set("ABCD") == {letter}


def test_passages_have_no_other_wording(prepared):
    assert paraphrases(of_group(prepared, PASSAGES), 9, seed=3) == []


def test_each_copy_is_another_wording_and_one_is_held_out(prepared, tiny):
    """Oracle: the decoded sequences, searched for the texts and their wordings between end-of-text tokens."""
    perturbed = perturb(prepared, Insertions("paraphrase", tiny, paraphrased=True), seed=3)
    rows = [prepared.tokenizer.decode(row) for row in perturbed.sequences]
    found = Counter(
        text for row in rows for text in row.split(END_OF_TEXT)[1:-1]
    )  # whole documents of a sequence
    for text in perturbed.texts:
        if text.group == PASSAGES:
            assert found[text.text] == text.duplicates
            continue
        held_out, *inserted = [wording for wording, _ in reword(prepared, text, 3)]
        assert len(inserted) == text.duplicates
        assert found[text.text] == found[held_out] == 0
        assert all(found[wording] == 1 for wording in inserted)
    assert len(perturbed.insertions) == sum(text.duplicates for text in perturbed.texts)


def test_interference_runs_insert_one_domain_each(prepared, tiny):
    plans = [plan for plan in perturbed_models(tiny, Variants(interference=True)) if plan.domain]
    assert (
        [plan.domain for plan in plans]
        == list(DOMAINS)
        == sorted({domain_of(t.group) for t in prepared.texts})
    )
    for plan in plans:
        perturbed = perturb(prepared, plan, seed=3)
        inserted = Counter(perturbed.texts[insertion.text].id for insertion in perturbed.insertions)
        assert inserted == {
            text.id: text.duplicates
            for text in perturbed.texts
            if text.duplicates and domain_of(text.group) == plan.domain
        }
