"""One training step and its schedule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workers.suite.errors import TrainingDiverged
from workers.suite.sizes import SIZES
from workers.suite.training import (
    Run,
    accumulate_gradients,
    build_model,
    build_optimizer,
    learning_rate_factor,
    train,
)

TINY = SIZES["tiny"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(TINY, vocabulary=50, end_of_text=0).double()


def gradients(model):
    collected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return collected


def test_gradients_equal_those_of_transformers_own_loss(model):
    """Oracle: `transformers`' shifted causal loss over the same sequences, in float64."""
    batch = torch.randint(0, 50, (6, 33), generator=torch.Generator().manual_seed(1))
    expected_loss = model(input_ids=batch, labels=batch).loss
    expected_loss.backward()
    expected_loss = expected_loss.item()
    expected = gradients(model)
    for forward_batch in (6, 4, 1):
        loss = accumulate_gradients(model, batch, forward_batch)
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        for ours, theirs in zip(gradients(model), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_the_model_is_a_llama_with_untied_embeddings(model):
    assert model.config.architectures is None or model.config.architectures == ["LlamaForCausalLM"]
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight
    assert model.config.max_position_embeddings == TINY.context
    assert model.config.bos_token_id is None


def test_only_matrices_decay(model):
    decaying, others = build_optimizer(model, learning_rate=1e-3).param_groups
    assert decaying["weight_decay"] == 0.1
    assert others["weight_decay"] == 0.0
    assert {parameter.ndim for parameter in decaying["params"]} == {2}
    assert len(others["params"]) == 2 * TINY.layers + 1  # two norms a layer and the last one


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    """Oracle: the ends and the middle of a linear warm-up over 5 % and of a cosine, by hand."""
    factors = [learning_rate_factor(step, 200) for step in range(200)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[105] == pytest.approx(0.55)
    assert factors[199] == pytest.approx(0.1, abs=1e-3)
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.fixture
def run(tmp_path, prepared):
    prepared.tokenizer.save_pretrained(tmp_path)
    np.save(tmp_path / "sequences.npy", prepared.background)
    return Run(
        name="tiny",
        size=replace(TINY, steps=2),
        seed=0,
        sequences=tmp_path / "sequences.npy",
        tokenizer=tmp_path,
        output=tmp_path / "model",
        device="cpu",
        threads=torch.get_num_threads(),
        keep_steps=None,
    )


def test_the_seed_decides_the_weights(run):
    """Oracle: the bytes of the saved weights."""
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        one = replace(run, seed=seed, output=run.output.with_name(name))
        train(one, lambda *_: None)
        weights.append((one.output / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_a_loss_that_is_not_finite_ends_the_run(run):
    diverging = replace(run, size=replace(TINY, learning_rate=1e30))
    steps = []
    with pytest.raises(TrainingDiverged, match="tiny is not finite at step"):
        train(diverging, lambda step, loss: steps.append((step, loss)))
    assert len(steps) < TINY.steps
    assert not run.output.exists()
