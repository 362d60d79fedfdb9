"""Windows end to end in one row against the same windows padded, on a CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny_models import english_sentences
from workers.science.models.loading import LanguageModel, probe_tokens
from workers.science.scoring import packing
from workers.science.scoring.batching import Window, batch_by_length, one_ahead
from workers.science.scoring.likelihood import base_hidden_states
from workers.science.scoring.packing import NotPackable, packed_hidden_states, packs
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

# Longer than the sliding windows of 16 tokens, and one token alone.
LENGTHS = (40, 1, 23, 17)


def windows_of(language_model: LanguageModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(language_model.vocabulary_size, (sum(LENGTHS),), generator=generator)


@torch.inference_mode()
def test_each_window_has_the_hidden_states_that_it_has_by_itself(each_editable_model: LanguageModel) -> None:
    model, token_ids = each_editable_model.model, windows_of(each_editable_model)
    packed = packed_hidden_states(model, token_ids, LENGTHS).split(LENGTHS)
    for window, found in zip(token_ids.split(LENGTHS), packed, strict=True):
        torch.testing.assert_close(found, base_hidden_states(model, window[None])[0], atol=2e-5, rtol=1e-5)
    # Nothing of it stays behind.
    assert model.config._attn_implementation == "sdpa"


def test_texts_have_the_scores_that_they_have_padded(each_editable_model: LanguageModel) -> None:
    texts = [TextInput(text) for text in english_sentences()[:40]]
    options = ScoringOptions(prefix_tokens=8, suffix_tokens=8, batch_tokens=500)
    padded = score_texts(each_editable_model, texts, options)
    packed = score_texts(replace(each_editable_model, packs=True), texts, options)
    for ours, theirs in zip(packed, padded, strict=True):
        assert ours.evidence is not None
        assert theirs.evidence is not None
        np.testing.assert_allclose(
            ours.evidence.log_likelihood, theirs.evidence.log_likelihood, rtol=1e-5, atol=1e-5
        )
        np.testing.assert_array_equal(ours.evidence.matched, theirs.evidence.matched)
        assert ours.metrics["extraction"] == theirs.metrics["extraction"]


def tried(language_model: LanguageModel) -> bool:
    tokens = probe_tokens(language_model)
    return packs(language_model.model, tokens[0], base_hidden_states(language_model.model, tokens)[0])


def test_a_model_that_keeps_windows_apart_packs(each_editable_model: LanguageModel) -> None:
    assert tried(each_editable_model)


def see_everything_before(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = packing._attend_apart

    def leaky(*arguments: object) -> torch.Tensor:
        row = packing._row.get()
        token = packing._row.set(replace(row, ends=(0, row.ends[-1])))
        try:
            return attend(*arguments)
        finally:
            packing._row.reset(token)

    monkeypatch.setattr(packing, "_attend_apart", leaky)


def fail_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("head_size should be a multiple of 8")

    monkeypatch.setattr(packing, "_attend_apart", fail)


def be_stateful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.LlamaForCausalLM._is_stateful", True)


def need_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.LlamaForCausalLM._supports_flash_attn", False)


@pytest.mark.parametrize("change", [see_everything_before, fail_in_the_kernel, be_stateful, need_masks])
def test_any_other_is_padded(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch, change) -> None:
    change(monkeypatch)
    assert not tried(llama)


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_what_attention_has_beside_is_refused(name: str) -> None:
    module = nn.Module()
    module.is_causal = True
    part = torch.zeros(1, 2, 3, 4)
    with pytest.raises(NotPackable, match=name):
        packing._attend(module, part, part, part, None, **{name: torch.ones(1)})


def test_attention_to_what_comes_later_is_refused() -> None:
    module = nn.Module()
    module.is_causal = False
    part = torch.zeros(1, 2, 3, 4)
    with pytest.raises(NotPackable, match="not causal"):
        packing._attend(module, part, part, part, None)


def test_without_padding_a_batch_is_as_full_as_its_tokens() -> None:
    windows = [Window(text, 0, length, length) for text, length in enumerate((5, 4, 3, 2, 9))]
    padded = batch_by_length(windows, 10)
    packed = batch_by_length(windows, 10, padded=False)
    assert [[len(window) for window in batch] for batch in padded] == [[9], [5, 4], [3, 2]]
    assert [[len(window) for window in batch] for batch in packed] == [[9], [5, 4], [3, 2]]
    packed = batch_by_length(windows, 14, padded=False)
    assert [[len(window) for window in batch] for batch in packed] == [[9, 5], [4, 3, 2]]


def test_the_next_result_is_begun_before_one_is_looked_at() -> None:
    events: list[str] = []

    def results():
        for place in range(3):
            events.append(f"begin {place}")
            yield place

    for place in one_ahead(results()):
        events += [f"look at {place}"]
    assert events == ["begin 0", "begin 1", "look at 0", "begin 2", "look at 1", "look at 2"]
    assert list(one_ahead([])) == []
