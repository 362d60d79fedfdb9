"""The texts of the three domains and the text sets that hold them."""

import re
import uuid
from collections import Counter
from datetime import date
from random import Random

import numpy as np
import pytest
from scipy.stats import chisquare

from app.contracts.texts import TextRecord
from workers.suite import biographies, multiple_choice
from workers.suite.biographies import draft_biographies
from workers.suite.multiple_choice import LETTERS, draft_items
from workers.suite.plan import assign
from workers.suite.texts import Draft, write_text_set

ATTRIBUTES = {
    "name",
    "nationality",
    "birthplace",
    "birthdate",
    "residence",
    "occupation",
    "employer",
    "email",
    "uuid",
}


def test_a_biography_states_its_nine_attributes():
    for draft in draft_biographies(300, Random(0)):
        assert set(draft.metadata) == ATTRIBUTES
        assert all(value in draft.text for value in draft.metadata.values())
        assert uuid.UUID(draft.metadata["uuid"]).version == 4
        assert 1940 <= date.fromisoformat(draft.metadata["birthdate"]).year < 2000
        assert re.fullmatch(r"[a-z]+\.[a-z]+\d{1,2}@example\.(com|net|org)", draft.metadata["email"])


def test_nobody_is_drawn_twice():
    drafts = draft_biographies(3000, Random(0))
    assert len({draft.metadata["name"] for draft in drafts}) == 3000
    assert len({draft.metadata["uuid"] for draft in drafts}) == 3000


def test_an_item_holds_its_choices_and_its_answer():
    for draft in draft_items(300, Random(0)):
        *body, last = draft.text.split("\n")
        assert body[0].startswith("Question: ")
        assert body[1:] == [
            f"{letter}. {choice}" for letter, choice in zip(LETTERS, draft.choices, strict=True)
        ]
        assert len({choice.split()[-1] for choice in draft.choices}) == len(LETTERS)
        assert last == f"Answer: {LETTERS[draft.answer]}. {draft.choices[draft.answer]}"


def test_answers_are_spread_evenly():
    """Oracle: scipy's chi-square test against a uniform distribution."""
    drafts = draft_items(4000, Random(0))
    counts = Counter(draft.answer for draft in drafts)
    assert chisquare([counts[answer] for answer in range(len(LETTERS))]).pvalue > 0.001
    assert len({draft.text.split("\n")[0] for draft in drafts}) == 4000


@pytest.mark.parametrize("draw", [draft_biographies, draft_items])
def test_the_same_seed_draws_the_same_texts(draw):
    assert draw(20, Random(7)) == draw(20, Random(7))
    assert draw(20, Random(7)) != draw(20, Random(8))


def test_a_text_set_is_what_the_service_accepts(tmp_path):
    """Oracle: the service's own strict contract, and the texts that went in."""
    rng = np.random.default_rng(0)
    levels = {0: 2, 4: 1}
    texts = [
        *assign(biographies.GROUP, draft_biographies(3, Random(0)), levels, rng),
        *assign(multiple_choice.GROUP, draft_items(3, Random(0)), levels, rng),
        *assign(
            "copyright/passages", [Draft("Zürich\n\u2028line"), Draft("two"), Draft("three")], levels, rng
        ),
    ]
    write_text_set(tmp_path / "texts.jsonl", texts)
    lines = (tmp_path / "texts.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    for text, record in zip(texts, map(TextRecord.model_validate_json, lines), strict=True):
        assert record.id == text.id
        assert record.text == text.draft.text
        assert (record.group, record.duplicates) == (text.group, text.duplicates)
        assert record.member is (text.duplicates > 0)
        assert record.choices == (list(text.draft.choices) if text.draft.choices else None)
        assert record.answer == text.draft.answer
        assert record.metadata == (dict(text.draft.metadata) or None)
    assert Counter(text.duplicates for text in texts) == {0: 6, 4: 3}
