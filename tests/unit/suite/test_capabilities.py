"""The capability set: right answers, nothing asked that was trained, and sizes without it as they were."""

import re
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from app.contracts.texts import TextRecord
from workers.suite import manifest
from workers.suite.capabilities import (
    ARITHMETIC,
    CLOSED_BOOK,
    COPYING,
    LOGIC,
    OPEN_BOOK,
    Lesson,
    draw_capabilities,
    held_out_texts,
)
from workers.suite.preparation import perturb, prepare
from workers.suite.sizes import SIZES
from workers.suite.tokenizer import END_OF_TEXT
from workers.suite.variants import Insertions, Variants

TASKS = (LOGIC, ARITHMETIC, CLOSED_BOOK, OPEN_BOOK, COPYING)
LESSONS = {task: Lesson(documents=400, held_out=40) for task in TASKS}


@pytest.fixture(scope="module")
def drawn():
    return draw_capabilities(LESSONS, Random("a seed"))


def items_of(drawn, task):
    return [*drawn[task].trained, *drawn[task].held_out]


def test_formulas_have_their_value(drawn):
    """Oracle: Python's own operators, which bind no looser than the brackets say."""
    answers = Counter()
    for item in items_of(drawn, LOGIC):
        formula = item.prompt.removesuffix(" is").replace("true", "True").replace("false", "False")
        assert item.answer == f" {str(eval(formula)).lower()}."
        answers[item.answer] += 1
    assert min(answers.values()) > 0.4 * sum(answers.values())


def test_sums_are_right(drawn):
    """Oracle: Python's own addition."""
    for item in items_of(drawn, ARITHMETIC):
        terms = re.fullmatch(r"Add ([\d ]+) \+ ([\d ]+) =", item.prompt).groups()
        first, second, total = (
            int(said.replace(" ", "")) for said in (*terms, item.answer.removesuffix("."))
        )
        assert first + second == total


def test_what_is_asked_stands_on_the_card(drawn):
    """Oracle: the card, read by its places. Documents ask of all four twice, in orders of their own."""
    names = ("Name", "Thing", "Animal", "Colour")
    asked_first = Counter()
    for item in items_of(drawn, OPEN_BOOK):
        said, _, asked = item.prompt.removeprefix("Card: ").removesuffix(":").rpartition(". ")
        card = dict(zip(names, said.split(", "), strict=True))
        assert item.answer == f" {card[asked]}."
        answered = [(asked, card[asked]), *re.findall(r" (\w+): (\w+)\.", item.more)]
        assert len(answered) == 8
        assert dict(answered[:4]) == dict(answered[4:]) == card
        asked_first[asked] += 1
    assert set(asked_first) == set(names)


def test_no_card_that_is_asked_of_is_in_a_document():
    """Nor with another question first; the same cards come again among many documents."""
    (drawn,) = draw_capabilities({OPEN_BOOK: Lesson(documents=20_000, held_out=200)}, Random(1)).values()
    cards = [item.prompt.rpartition(". ")[0] for item in drawn.trained]
    assert len(set(cards)) < len(cards)
    assert not set(cards) & {item.prompt.rpartition(". ")[0] for item in drawn.held_out}


def test_a_copy_says_the_same(drawn):
    """In documents twice."""
    for item in items_of(drawn, COPYING):
        said = item.prompt.removeprefix("Copy: ").removesuffix(". Copied:")
        assert len(set(said.split())) == 6
        assert item.answer == f" {said}."
        assert item.more == f" Copied: {said}."


def test_a_fact_is_asked_in_the_one_wording_that_was_not_trained(drawn):
    """Every fact is told in five wordings with one answer; the sixth is trained of other facts."""
    towns = re.compile(r"\b(?!Emblem|On|The|People)[A-Z]\w+")

    def wording(item):
        return towns.sub("T", item.prompt)

    trained = drawn[CLOSED_BOOK].trained
    told = {}
    for item in trained:
        told.setdefault(towns.search(item.prompt)[0], []).append(item)
    for item in drawn[CLOSED_BOOK].held_out:
        same = told.pop(towns.search(item.prompt)[0])
        assert {each.answer for each in same} == {item.answer}
        wordings = {wording(each) for each in same}
        assert len(wordings) == 5
        assert wording(item) not in wordings
        assert wording(item) in {wording(each) for each in trained}
    assert not told


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size.lessons])
def test_nothing_is_asked_that_was_trained(name):
    """In every size, that of all tasks; ids are distinct, and the records are items of an edit."""
    lessons = SIZES[name].lessons
    drawn = draw_capabilities(lessons, Random(0))
    for task, lesson in lessons.items():
        trained = {item.prompt for item in drawn[task].trained}
        held_out = {item.prompt for item in drawn[task].held_out}
        assert len(drawn[task].trained) == lesson.documents
        assert len(held_out) == lesson.held_out
        assert not trained & held_out
    texts = held_out_texts(drawn)
    assert len({text.id for text in texts}) == len(texts)
    for text in texts:
        record = TextRecord.model_validate(text.record())
        assert record.full_text == text.text
        assert (record.group, record.member) == (text.group, False)


def test_the_seed_decides_what_is_drawn(drawn):
    assert draw_capabilities(LESSONS, Random("a seed")) == drawn
    assert draw_capabilities(LESSONS, Random("another")) != drawn


def test_both_models_of_a_pair_are_taught_and_neither_is_asked(small_corpus, tiny):
    """Oracle: the decoded sequences. What is held out is in neither model's training as it is asked."""
    lessons = {task: Lesson(documents=60, held_out=10) for task in TASKS}
    taught = prepare(small_corpus, replace(tiny, lessons=lessons), seed=3)
    assert Counter(text.group for text in taught.capabilities) == dict.fromkeys(lessons, 10)
    assert taught.items == 300
    perturbed = perturb(taught, Insertions("perturbed", tiny), seed=3)
    known = draw_capabilities(lessons, Random("capabilities 3"))
    for sequences in (taught.background, perturbed.sequences):
        said = taught.tokenizer.decode(sequences.flatten())
        for task, drawn in known.items():
            whole = sum(f"{END_OF_TEXT}{item.document}{END_OF_TEXT}" in said for item in drawn.trained)
            assert whole > 0.5 * len(drawn.trained), task
            assert not [
                item for item in drawn.held_out if f"{END_OF_TEXT}{item.prompt + item.answer}" in said
            ]
    described = manifest.describe_capabilities(taught)
    assert described["held_out"] == dict.fromkeys(lessons, 10)
    assert described["tokens"] == sum(tokens.size + 1 for tokens in taught.documents[-300:])
    assert 0 < described["share_of_tokens"] < 1


def test_a_size_without_tasks_is_what_it_was(small_corpus, tiny, prepared):
    """So suites trained by an earlier release stay finished."""
    asked = manifest.configuration(small_corpus, tiny, 3, variants=Variants(), plant=None, keep_steps=None)
    assert "lessons" not in asked["size"]
    assert not prepared.capabilities
    lessons = {COPYING: Lesson(documents=10, held_out=1)}
    other = manifest.configuration(
        small_corpus, replace(tiny, lessons=lessons), 3, variants=Variants(), plant=None, keep_steps=None
    )
    assert other["size"]["lessons"] == {COPYING: {"documents": 10, "held_out": 1}}
    assert not np.array_equal(
        prepare(small_corpus, replace(tiny, lessons=lessons), seed=3).background, prepared.background
    )
