"""Do memories come back? Oracles: a quantiser in numpy, torch's cast, a plain training loop, the scores."""

import copy
import re

import numpy as np
import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.evaluation.stress import (
    FineTuning,
    fine_tuned,
    recites,
    rounded_weights,
    to_bfloat16,
    to_int4,
    to_int8,
)
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.token_blocks import text_blocks
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(metrics=frozenset({"extraction"}), token_evidence=False)
RANDOM = torch.Generator().manual_seed(0)
QUICK = FineTuning(steps=3, batch_blocks=4, learning_rate=1e-3, seed=5)
# A matrix of a layer, as any architecture names it: a number in its path, and two dimensions.
IN_A_LAYER = re.compile(r"\.\d+\.")


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def clean(llama):
    return text_blocks(llama, english_sentences()[:6], max_tokens=40)


def own(language_model):
    """A copy whose flags are mixed, so that they are seen to come back."""
    model = copy.deepcopy(language_model.model)
    for place, parameter in enumerate(model.parameters()):
        parameter.requires_grad = place % 3 != 0
    return LanguageModel(**{**vars(language_model), "model": model})


def state_of(model):
    """The bits, the flags and the gradients of every parameter, and whether gradients are recorded."""
    return (
        {name: value.detach().numpy().tobytes() for name, value in model.named_parameters()},
        {name: (value.requires_grad, value.grad) for name, value in model.named_parameters()},
        torch.is_grad_enabled(),
        model.training,
    )


def matrices_of_layers(model):
    return {name for name, value in model.named_parameters() if value.dim() == 2 and IN_A_LAYER.search(name)}


def changed_since(before, model):
    bits = before[0]
    return {
        name for name, value in model.named_parameters() if value.detach().numpy().tobytes() != bits[name]
    }


def test_int8_is_what_a_quantiser_in_numpy_says():
    weight = torch.randn(50, 33, generator=RANDOM) * torch.logspace(-6, 4, 50)[:, None]
    weight[7] = 0
    weight[8, :3] = torch.tensor([2.5, -127.0, 1.5])
    weight[8, 3:] = 0
    rows = weight.numpy()
    scale = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    codes = np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)
    expected = np.rint(codes).astype(np.int8).astype(np.float32) * scale
    rounded = to_int8(weight).numpy()
    np.testing.assert_array_equal(rounded, expected)
    np.testing.assert_array_equal(rounded[8, :3], [2, -127, 2])
    assert (np.abs(rounded - rows) <= scale * 0.5001).all()
    assert not np.array_equal(rounded, rows)


def test_int8_of_bfloat16_stays_within_a_level():
    weight = torch.randn(20, 40, generator=RANDOM).to(torch.bfloat16)
    weight[3] = 0
    rounded = to_int8(weight)
    assert rounded.dtype == torch.bfloat16
    level = weight.float().abs().amax(1, keepdim=True) / 127
    assert ((rounded.float() - weight.float()).abs() <= 1.01 * level).all()
    assert not rounded[3].any()


def test_int4_is_what_a_quantiser_in_numpy_says():
    weight = torch.randn(30, 300, generator=RANDOM) * torch.logspace(-4, 3, 30)[:, None]
    weight[7] = 0
    expected = np.zeros((30, 300), np.float32)
    for row, numbers in enumerate(weight.numpy()):
        for start in (0, 128, 256):
            group = numbers[start : start + 128]
            scale = np.abs(group).max() / np.float32(7)
            if scale > 0:
                expected[row, start : start + 128] = np.rint(group / scale) * scale
    np.testing.assert_array_equal(to_int4(weight).numpy(), expected)
    for group in to_int4(weight).split(128, dim=1):
        assert len(group[3].unique()) <= 15


@pytest.mark.parametrize(("rounding", "levels", "width"), [(to_int4, 7, 128), (to_int8, 127, 256)])
def test_a_weight_that_is_on_the_grid_already_stays_as_it_is(rounding, levels, width):
    """Whole codes, of which each group has a largest, times scales that are powers of two."""
    codes = torch.randint(-levels, levels + 1, (20, 256), generator=RANDOM).float()
    codes[:, ::width] = levels
    weight = codes * 2.0 ** torch.arange(-10, 10)[:, None]
    assert torch.equal(rounding(weight), weight)
    once = rounding(torch.randn(20, 256, generator=RANDOM))
    torch.testing.assert_close(rounding(once), once, rtol=1e-6, atol=0)
    off = weight.clone()
    off[3, 1] += 0.3 * 2.0**-7
    assert torch.equal(rounding(off), weight)


def test_bfloat16_is_torchs_cast():
    weight = torch.randn(5, 7, generator=RANDOM)
    rounded = to_bfloat16(weight)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, weight.bfloat16().float())
    assert torch.equal(rounded.view(torch.int32) & 0xFFFF, torch.zeros(5, 7, dtype=torch.int32))
    assert not torch.equal(rounded, weight)


@pytest.mark.parametrize("rounding", [to_int8, to_int4, to_bfloat16])
def test_every_matrix_of_the_layers_is_rounded_for_a_while(each_editable_model, rounding):
    language_model = own(each_editable_model)
    model = language_model.model
    before = state_of(model)
    originals = {name: value.detach().clone() for name, value in model.named_parameters()}
    with rounded_weights(language_model, rounding):
        assert changed_since(before, model) == matrices_of_layers(model)
        for name in matrices_of_layers(model):
            assert torch.equal(model.get_parameter(name), rounding(originals[name]))
    assert state_of(model) == before


def test_rounded_weights_are_put_back_after_a_failure(llama):
    language_model = own(llama)
    before = state_of(language_model.model)
    with pytest.raises(Interrupted), rounded_weights(language_model, to_int8):
        raise Interrupted
    assert state_of(language_model.model) == before
    calls = []

    def fails_at_the_third(weight):
        calls.append(weight)
        if len(calls) == 3:
            raise Interrupted
        return weight * 2

    with pytest.raises(Interrupted), rounded_weights(language_model, fails_at_the_third):
        pytest.fail("never entered")
    assert state_of(language_model.model) == before


def loss_of(model, rows):
    blocks = rows.part(range(len(rows)))
    with torch.inference_mode():
        labels = blocks.ids.masked_fill(~blocks.mask, -100)
        return float(model(input_ids=blocks.ids, labels=labels, use_cache=False).loss)


def test_fine_tuning_trains_the_matrices_of_the_layers_for_a_while(each_editable_model, clean):
    language_model = own(each_editable_model)
    model = language_model.model
    before = state_of(model)
    steps = []
    with fine_tuned(language_model, clean, QUICK, steps.append):
        assert steps == [1, 2, 3]
        assert changed_since(before, model) == matrices_of_layers(model)
        assert state_of(model)[1] == before[1]
        assert not torch.is_grad_enabled()
    assert state_of(model) == before


def test_fine_tuning_is_adamw_on_the_loss_of_transformers(llama, clean):
    """The oracle draws the same rows and trains a copy by the library's own loss."""
    copied = copy.deepcopy(llama.model)
    matrices = {name: copied.get_parameter(name) for name in matrices_of_layers(copied)}
    generator = torch.Generator().manual_seed(QUICK.seed)
    optimizer = torch.optim.AdamW(matrices.values(), lr=QUICK.learning_rate)
    for _ in range(QUICK.steps):
        rows = torch.randint(len(clean), (QUICK.batch_blocks,), generator=generator)
        drawn = clean.part(rows)
        logits = copied(drawn.ids, use_cache=False).logits[:, :-1]
        targets, real = drawn.ids[:, 1:], drawn.mask[:, 1:]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits[real], targets[real]).backward()
        optimizer.step()
    with fine_tuned(llama, clean, QUICK, lambda _: None):
        for name, expected in matrices.items():
            # Three steps of 1e-3 each; AdamW turns the rounding of tiny gradients into parts of a step.
            torch.testing.assert_close(
                llama.model.get_parameter(name), expected.detach(), rtol=0, atol=1e-4, msg=name
            )


def test_fine_tuning_learns_its_blocks(llama, clean):
    before = loss_of(llama.model, clean)
    with fine_tuned(llama, clean, FineTuning(steps=30, learning_rate=3e-3), lambda _: None):
        assert loss_of(llama.model, clean) < 0.7 * before
    assert loss_of(llama.model, clean) == before


def test_the_seed_chooses_the_blocks(llama, clean):
    def tuned(seed):
        with fine_tuned(llama, clean, FineTuning(steps=1, batch_blocks=1, seed=seed), lambda _: None):
            return loss_of(llama.model, clean)

    assert tuned(0) == tuned(0)
    assert len({tuned(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("step", [1, 2])
def test_a_stop_between_steps_leaves_the_model_as_it_was(llama, clean, step):
    language_model = own(llama)
    before = state_of(language_model.model)

    def stop(done):
        if done == step:
            raise Interrupted

    with pytest.raises(Interrupted), fine_tuned(language_model, clean, QUICK, stop):
        pytest.fail("never entered")
    assert state_of(language_model.model) == before


def test_a_failure_after_fine_tuning_leaves_the_model_as_it_was(llama, clean):
    language_model = own(llama)
    before = state_of(language_model.model)
    with pytest.raises(Interrupted), fine_tuned(language_model, clean, QUICK, lambda _: None):
        raise Interrupted
    assert state_of(language_model.model) == before


def test_half_precision_weights_come_back(checkpoints, clean):
    language_model = load_language_model(checkpoints["llama"], device="cpu", dtype="bfloat16")
    before = {
        name: value.view(torch.int16).clone() for name, value in language_model.model.state_dict().items()
    }
    with rounded_weights(language_model, to_int8), fine_tuned(language_model, clean, QUICK, lambda _: None):
        pass
    for name, value in language_model.model.state_dict().items():
        assert torch.equal(value.view(torch.int16), before[name])


def test_recited_is_what_scores_say_strictly(reciting, recited_texts):
    ids = reciting.tokenizer(recited_texts[1])["input_ids"][:112]
    ids[80] += 1
    texts = [TextInput(text) for text in (*recited_texts, *english_sentences()[:4], "", "a")]
    texts.append(TextInput(reciting.tokenizer.decode(ids)))
    strict = [
        None if score.error else score.metrics["extraction"]["strict"]
        for score in score_texts(reciting, texts, ScoringOptions())
    ]
    assert {None, False, True} == set(strict)
    assert recites(reciting, texts, OPTIONS) == strict
    assert recites(reciting, [], OPTIONS) == []
