"""The logit lens. Oracles: the model's own logits at the last layer; a model cut off after a layer."""

import copy

import numpy as np
import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.errors import ScienceError
from workers.science.evaluation.logit_lens import LogitLens
from workers.science.evaluation.suffixes import suffixes_of
from workers.science.models.loading import LanguageModel
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(prefix_tokens=16, suffix_tokens=8)
TEXTS = [TextInput(text) for text in ("", *english_sentences()[20:28], english_sentences()[30][:30])]


def readings(language_model):
    suffixes = suffixes_of(language_model, TEXTS, OPTIONS)
    return {each.text: each for each in LogitLens(language_model).read(suffixes)}, suffixes


@torch.inference_mode()
def by_logits(model, suffix):
    """Mean log-likelihood and share of right choices from the library's logits, without any batch."""
    inputs = torch.tensor([[*suffix.prompt, *suffix.token_ids[:-1]]])
    logits = model(inputs, use_cache=False).logits[0, len(suffix.prompt) - 1 :].float()
    targets = torch.from_numpy(suffix.token_ids)
    likely = logits.log_softmax(-1).gather(1, targets[:, None])
    return float(likely.mean()), float((logits.argmax(-1) == targets).double().mean())


def test_at_the_last_layer_it_is_the_models_logits(each_editable_model):
    found, suffixes = readings(each_editable_model)
    assert len(suffixes) == len(TEXTS) - 1
    for suffix in suffixes:
        likely, right = by_logits(each_editable_model.model, suffix)
        assert found[suffix.text].log_likelihood[-1] == pytest.approx(likely, abs=2e-5)
        assert found[suffix.text].right[-1] == right
        assert len(found[suffix.text].right) == 2


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "gpt_neox", "opt", "olmo2"])
def test_before_it_is_what_a_model_without_the_later_layers_says(language_models, architecture):
    language_model = language_models[architecture]
    found, suffixes = readings(language_model)
    cut = copy.deepcopy(language_model.model)
    inner = cut.base_model.decoder if architecture == "opt" else cut.base_model
    name = "h" if architecture == "gpt2" else "layers"
    setattr(inner, name, getattr(inner, name)[:1])
    cut.config.num_hidden_layers = inner.config.num_hidden_layers = 1
    for suffix in suffixes:
        likely, right = by_logits(cut, suffix)
        assert found[suffix.text].log_likelihood[0] == pytest.approx(likely, abs=2e-5)
        assert found[suffix.text].right[0] == right
    first, last = (np.array([found[each.text].log_likelihood[at] for each in suffixes]) for at in (0, 1))
    assert np.abs(first - last).max() > 0.02


def test_what_is_recited_is_right_at_the_last_layer(reciting, recited_texts):
    texts = [TextInput(text) for text in recited_texts]
    options = ScoringOptions(metrics=frozenset({"extraction"}))
    strict = [score.metrics["extraction"]["strict"] for score in score_texts(reciting, texts, options)]
    right = [each.right[-1] for each in LogitLens(reciting).read(suffixes_of(reciting, texts, options))]
    assert sorted(share == 1 for share in right) == sorted(strict)
    assert any(strict)


def test_nothing_is_left_on_the_model(llama):
    before = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in llama.model.modules()]
    readings(llama)
    after = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in llama.model.modules()]
    assert before == after


def test_an_architecture_whose_end_cannot_be_told_is_not_read(llama):
    """One that adds something behind its last module, outside any."""
    model = copy.deepcopy(llama.model)
    inner = model.base_model
    forward = inner.forward

    def more(*args, **options):
        output = forward(*args, **options)
        output.last_hidden_state = output.last_hidden_state * 2
        return output

    inner.forward = more
    with pytest.raises(ScienceError, match="cannot be told"):
        LogitLens(LanguageModel(**{**vars(llama), "model": model}))


def test_the_numbers_of_a_text_do_not_depend_on_the_others(llama):
    together, suffixes = readings(llama)
    for suffix in suffixes:
        (alone,) = LogitLens(llama).read([suffix])
        np.testing.assert_allclose(alone.log_likelihood, together[suffix.text].log_likelihood, atol=1e-5)
