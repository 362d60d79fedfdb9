import math

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.tiny_models import EDITABLE_ARCHITECTURES, english_sentences
from workers.science.baselines import balanced_subnet
from workers.science.baselines.balanced_subnet import BalancedSubnetOptions, learn_subnet
from workers.science.baselines.svd import truncate
from workers.science.errors import ScienceError
from workers.science.evaluation.utility import mean_nll
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import TokenRows, pack_texts, text_blocks
from workers.science.models.weight_edit import replaced


@pytest.fixture(scope="module")
def forget(llama):
    return text_blocks(llama, english_sentences()[:6], max_tokens=40)


@pytest.fixture(scope="module")
def retain(llama):
    return pack_texts(llama, english_sentences()[20:30], block_tokens=32).part(slice(-6, None))


@pytest.mark.parametrize(("ratio", "rank"), [(0.1, 3), (0.11, 4), (1e-6, 1), (0.5, 15), (1.0, 30)])
def test_svd_keeps_the_best_approximation_of_the_rank(ratio, rank):
    """The oracle is numpy's decomposition and Eckart and Young: the error is the rest of the spectrum."""
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    truncated, kept = truncate(weight, ratio)
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    assert int(torch.linalg.matrix_rank(truncated)) == kept == rank
    error = float((truncated - weight.double()).norm())
    assert error == pytest.approx(math.sqrt((values[rank:] ** 2).sum()), rel=1e-9, abs=1e-5)


def test_a_share_that_means_a_whole_rank_gives_that_rank_whatever_the_rounding():
    assert 0.07 * 100 > 7
    assert int(torch.linalg.matrix_rank(truncate(torch.eye(100) + torch.ones(100, 100), 0.07)[0])) == 7


def test_masks_are_where_their_scores_are_on_gpus_that_need_not_be_there():
    """Fake tensors refuse what mixes devices, as real ones do."""
    devices = [torch.device("cuda", place) for place in (0, 1, 0)]
    with FakeTensorMode():
        scores = [torch.rand(4, 5, device=device) for device in devices]
        masks = balanced_subnet._straight_through(scores, balanced_subnet._keep_masks(scores, 0.1))
        assert [mask.device for mask in masks] == devices


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.1])
def test_svd_refuses_a_share_outside_zero_to_one(ratio):
    with pytest.raises(ValueError, match="ratio"):
        truncate(torch.ones(2, 2), ratio)


@pytest.mark.parametrize("ratio", [0.0015, 0.01, 0.2])
def test_balanced_subnet_drops_exactly_the_ratio_across_all_projections(llama, forget, retain, ratio):
    projections = find_projections(llama.model, layers=[0, 1])
    masks = learn_subnet(llama, projections, forget, retain, BalancedSubnetOptions(ratio=ratio, epochs=1))
    assert list(masks) == [projection.key for projection in projections]
    for projection in projections:
        assert masks[projection.key].shape == projection.weight.shape
        assert masks[projection.key].dtype == torch.bool
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(ratio * 4 * 64 * 32)


def test_ties_among_scores_do_not_drop_more():
    (mask,) = balanced_subnet._keep_masks([torch.ones(10, 10)], 0.25)
    assert int((~mask).sum()) == 25


@pytest.mark.parametrize("architecture", EDITABLE_ARCHITECTURES)
def test_a_step_follows_the_gradient_of_the_papers_loss(language_models, architecture, forget, retain):
    """The oracle writes the masked weights into the model and lets autograd find the weights' gradients of
    -(1 - w) L_forget + w L_retain from transformers' logits: d loss / d|score| = gradient * weight.
    """
    language_model, model = language_models[architecture], language_models[architecture].model
    projections = find_projections(model, layers=[0, 1])
    generator = torch.Generator().manual_seed(4)
    scores = [torch.randn(projection.weight.shape, generator=generator) for projection in projections]
    keeps = balanced_subnet._keep_masks(scores, 0.1)
    options = BalancedSubnetOptions(batch_blocks=5)
    mixes = balanced_subnet._batches(forget, retain, options, generator)
    mix = next(mix for mix in mixes if len(set(mix.to_forget.tolist())) == 2)

    leaves = [score.clone().requires_grad_() for score in scores]
    masks = balanced_subnet._straight_through(leaves, keeps)
    with balanced_subnet.frozen(model):
        balanced_subnet._descend(language_model, projections, masks, mix, 0.7)

    originals = [projection.weight.clone() for projection in projections]
    masked = [original * keep for original, keep in zip(originals, keeps, strict=True)]
    with replaced(list(zip(projections, masked, strict=True))):
        logits = model(mix.blocks.ids, use_cache=False).logits.float()
        loss = 0.0
        for chosen, weight in ((mix.to_forget, -0.3), (~mix.to_forget, 0.7)):
            predicts = mix.blocks.predicts & chosen[:, None]
            loss = loss + weight * nn.functional.cross_entropy(logits[predicts], mix.blocks.labels[predicts])
        parameters = [projection.module.weight for projection in projections]
        gradients = torch.autograd.grad(loss, parameters)
    for leaf, projection, original, gradient in zip(leaves, projections, originals, gradients, strict=True):
        expected = projection.of_parameter(gradient) * original * leaf.detach().sign()
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_blocks", [1, 2])
def test_a_batch_of_one_kind_alone_gives_finite_scores(llama, forget, retain, monkeypatch, batch_blocks):
    projections = find_projections(llama.model, layers=[1])
    kinds, scores = [], []
    descend = balanced_subnet._descend

    def watch(language_model, chosen, masks, mix, loss_weight):
        kinds.append(set(mix.to_forget.tolist()))
        descend(language_model, chosen, masks, mix, loss_weight)

    keep_masks = balanced_subnet._keep_masks
    monkeypatch.setattr(balanced_subnet, "_descend", watch)
    monkeypatch.setattr(
        balanced_subnet, "_keep_masks", lambda each, ratio: scores.append(each) or keep_masks(each, ratio)
    )
    learn_subnet(
        llama, projections, forget, retain, BalancedSubnetOptions(epochs=1, batch_blocks=batch_blocks)
    )
    assert {True} in kinds
    assert {False} in kinds
    assert all(torch.isfinite(score).all() for score in scores[-1])


def test_balanced_subnet_forgets_what_it_is_told_and_keeps_the_rest(reciting, recited_texts):
    """Half of the texts that the model recites are forgotten, and their loss grows more than the others'."""
    forget = text_blocks(reciting, recited_texts[:2], max_tokens=128)
    keep = text_blocks(reciting, recited_texts[2:], max_tokens=128)
    projections = find_projections(reciting.model, layers=[0, 1])
    options = BalancedSubnetOptions(ratio=0.05, epochs=30, batch_blocks=4)
    masks = learn_subnet(reciting, projections, forget, keep, options)
    before = mean_nll(reciting, forget), mean_nll(reciting, keep)
    with replaced([(projection, projection.weight * masks[projection.key]) for projection in projections]):
        after = mean_nll(reciting, forget), mean_nll(reciting, keep)
    assert after[0] - before[0] > 1
    assert after[0] - before[0] > 2 * (after[1] - before[1])


def test_the_same_seed_learns_the_same_masks_and_leaves_the_model_alone(llama, forget, retain):
    bits = {name: value.clone() for name, value in llama.model.state_dict().items()}
    trainable = [parameter.requires_grad for parameter in llama.model.parameters()]
    options = BalancedSubnetOptions(ratio=0.05, epochs=1)
    projections = find_projections(llama.model)

    def learn(seed):
        return torch.stack([*learn_subnet(llama, projections, forget, retain, options, seed=seed).values()])

    assert torch.equal(learn(1), learn(1))
    assert not torch.equal(learn(1), learn(2))
    assert all(torch.equal(value, bits[name]) for name, value in llama.model.state_dict().items())
    assert [parameter.requires_grad for parameter in llama.model.parameters()] == trainable
    assert all(parameter.grad is None for parameter in llama.model.parameters())


def test_progress_counts_blocks_and_may_stop(llama, forget, retain):
    seen = []
    projections = find_projections(llama.model)
    options = BalancedSubnetOptions(epochs=2, batch_blocks=4)
    learn_subnet(llama, projections, forget, retain, options, on_progress=seen.append)
    assert seen[-1] == 2 * (len(forget) + len(retain))
    bits = {name: value.clone() for name, value in llama.model.state_dict().items()}

    def stop(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_subnet(llama, projections, forget, retain, options, on_progress=stop)
    assert all(torch.equal(value, bits[name]) for name, value in llama.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in llama.model.parameters())


def test_sets_without_predictions_and_no_projections_are_refused(llama, forget, retain):
    projections = find_projections(llama.model)
    empty = TokenRows(forget.ids[:2], torch.arange(3), forget.padding)  # two prefix tokens alone
    for pair in ((empty, retain), (forget, empty)):
        with pytest.raises(ScienceError) as refusal:
            learn_subnet(llama, projections, *pair)
        assert refusal.value.code == "text_set_empty"
    with pytest.raises(ValueError, match="projections"):
        learn_subnet(llama, [], forget, retain)


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0.0}, {"ratio": 1.0}, {"loss_weight": 1.5}, {"epochs": 0}, {"batch_blocks": 0}]
)
def test_options_outside_their_ranges_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        BalancedSubnetOptions(**wrong)
