"""Relearning curves. Oracles: a fine-tune of so many steps, and what is recited after it; training itself."""

import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.evaluation import relearning
from workers.science.evaluation.relearning import relearning_curve, shown_again
from workers.science.evaluation.stress import FineTuning, fine_tuned, recites
from workers.science.models.token_blocks import text_blocks
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(prefix_tokens=16, suffix_tokens=8)
TUNING = FineTuning(learning_rate=1e-3, seed=3)
TEXTS = [TextInput(text) for text in english_sentences()[40:46]]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(relearning, "STEPS", (2, 5))


@pytest.fixture(scope="module")
def clean(reciting):
    return text_blocks(reciting, english_sentences()[:6], max_tokens=40)


def test_each_point_is_a_fine_tune_of_so_many_steps(reciting, recited_texts, clean):
    tested = {"recited": [TextInput(text) for text in recited_texts], "others": TEXTS}
    bits = {name: value.clone() for name, value in reciting.model.state_dict().items()}
    told = []
    curve = relearning_curve(reciting, clean, tested, OPTIONS, TUNING, lambda: told.append(1))
    assert all(torch.equal(value, bits[name]) for name, value in reciting.model.state_dict().items())
    assert [point.step for point in curve] == [0, 2, 5]
    assert len(told) == 5 + 3 * 2
    assert curve[0].recited == {name: recites(reciting, texts, OPTIONS) for name, texts in tested.items()}
    assert curve[0].recited["recited"] == [True] * len(recited_texts)
    for point in curve[1:]:
        tuning = FineTuning(steps=point.step, learning_rate=1e-3, seed=3)
        with fine_tuned(reciting, clean, tuning, lambda _: None):
            expected = {name: recites(reciting, texts, OPTIONS) for name, texts in tested.items()}
        assert point.recited == expected


def test_texts_that_are_trained_on_come_to_be_recited(reciting, monkeypatch):
    monkeypatch.setattr(relearning, "STEPS", (1, 60))
    rows = text_blocks(reciting, [text.text for text in TEXTS[:2]], max_tokens=40)
    first, _, last = relearning_curve(
        reciting, rows, {"shown": TEXTS[:2], "rest": TEXTS[2:]}, OPTIONS, FineTuning(learning_rate=3e-3), list
    )
    assert first.recited == {"shown": [False, False], "rest": [False] * 4}
    assert last.recited["shown"] == [True, True]


def test_a_model_that_training_breaks_recites_nothing_that_is_known(reciting, clean):
    broken = FineTuning(learning_rate=1e30)
    curve = relearning_curve(reciting, clean, {"texts": TEXTS}, OPTIONS, broken, list)
    assert [point.recited is None for point in curve] == [False, True, True]


@pytest.mark.parametrize(("n", "shown"), [(0, 0), (1, 0), (2, 1), (7, 1), (8, 2), (32, 8), (500, 8)])
def test_a_quarter_is_shown_and_at_most_eight(n, shown):
    places = shown_again(n, seed=4)
    assert len(set(places)) == shown
    assert all(0 <= place < n for place in places)
    assert places == shown_again(n, seed=4)
    assert n < 32 or places != shown_again(n, seed=5)
