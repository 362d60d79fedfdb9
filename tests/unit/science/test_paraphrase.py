"""The inserted wording against others. Oracle: a loop over transformers' logits in float64."""

import copy

import pytest
import torch

from tests.tiny_models import END_OF_TEXT
from tests.unit.science.test_multiple_choice import subject_of
from workers.science.measurements.measurement import MeasuredText
from workers.science.measurements.paraphrase import MEASUREMENT, preference
from workers.science.scoring.texts import TextInput


def with_paraphrases(text, paraphrases):
    return MeasuredText(text=TextInput(text), metadata={"paraphrase": {"paraphrases": paraphrases}})


def measured(language_model, texts, on_progress=lambda _: None):
    return MEASUREMENT.measure(subject_of(language_model), texts, on_progress)


@torch.inference_mode()
def log_likelihood_by_hand(language_model, text):
    """After the end of a text, as HUBBLE's tasks have it: its tokenizer has no BOS."""
    ids = language_model.tokenizer(END_OF_TEXT + text, return_tensors="pt")["input_ids"]
    model = copy.deepcopy(language_model.model).double()
    following = model(ids).logits[0, :-1].log_softmax(-1)
    return float(following.gather(-1, ids[0, 1:, None]).sum())


def test_margins_are_those_of_a_loop_over_logits(reciting, recited_texts):
    texts = [text[:150] for text in recited_texts]
    others = [[text.upper()[:120], " ".join(reversed(text.split()))] for text in texts]
    told = []
    found = measured(reciting, list(map(with_paraphrases, texts, others)), told.append)
    assert told[-1] == len(texts)
    for text, paraphrases, one in zip(texts, others, found, strict=True):
        own, *rest = [log_likelihood_by_hand(reciting, wording) for wording in (text, *paraphrases)]
        assert one["margin"] == pytest.approx(own - max(rest), rel=1e-4)
        by_character = [number / len(wording) for number, wording in zip(rest, paraphrases, strict=True)]
        assert one["margin_normalized"] == pytest.approx(own / len(text) - max(by_character), rel=1e-4)
        assert one["preferred"] == (own > max(rest)) is True
    turned = measured(reciting, [with_paraphrases(others[0][0], [texts[0]])])[0]
    assert turned["preferred"] is turned["preferred_normalized"] is False
    assert turned["margin"] < 0


def test_length_counts_where_it_is_normalised():
    """In sum the short wording is likelier, by character the long one."""
    found = preference(("a long wording", "short"), (-14.0, -10.0))
    assert (found["preferred"], found["margin"]) == (False, -4.0)
    assert (found["preferred_normalized"], found["margin_normalized"]) == (True, 1.0)


def test_of_equally_likely_wordings_none_is_preferred(llama):
    (one,) = measured(llama, [with_paraphrases("The same.", ["The same."])])
    assert one["preferred"] is one["preferred_normalized"] is False
    assert one["margin"] == 0


@pytest.mark.parametrize(
    "asked",
    [
        ["another wording"],
        {"paraphrases": "another wording"},
        {"paraphrases": []},
        {"paraphrases": [""]},
        {"paraphrases": [None]},
        {"paraphrases": ["a"] * 101},
        {"paraphrases": ["a"], "more": 1},
        {},
    ],
)
def test_metadata_is_not_trusted(llama, asked):
    text = MeasuredText(text=TextInput("A wording."), metadata={"paraphrase": asked})
    plain = MeasuredText(text=TextInput("A wording."))
    malformed, not_applicable = measured(llama, [text, plain])
    numbers = dict.fromkeys(("preferred", "margin", "preferred_normalized", "margin_normalized"))
    assert malformed == {"status": "malformed", **numbers}
    assert not_applicable == {"status": "not_applicable", **numbers}
