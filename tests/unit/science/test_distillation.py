"""Distillation of an edited model from its base. Oracles: torch's divergence, Adam on a copy; identities."""

import copy

import pytest
import torch
from torch.nn import functional

from tests.tiny_models import english_sentences
from workers.science.curvature.distillation import Distillation, distilled
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts, text_blocks

STEPS = Distillation(steps=3, learning_rate=0.02, batch_rows=4, seed=5)


@pytest.fixture(scope="module")
def texts(language_models):
    """Rows of a text each, and blocks."""
    model = language_models["llama"]
    sentences = english_sentences()
    return text_blocks(model, sentences[:9], max_tokens=24), pack_texts(
        model, sentences[9:30], block_tokens=16
    )


def halved(language_model, layers=(0, 1)):
    return [
        (projection, projection.weight.detach() / 2)
        for projection in find_projections(language_model.model, layers=layers)
    ]


def weights_of(edited):
    return [weight for _, weight in edited]


def divergence(language_model, edited, rows):
    """Mean KL(base || edited) over the predicting positions of all rows."""
    blocks = rows.part(list(range(len(rows))))
    model = copy.deepcopy(language_model.model)
    with torch.no_grad():
        for projection, weight in edited:
            model.get_parameter(projection.parameter_name).copy_(weight)
        log_p, log_q = (
            each(input_ids=blocks.ids, use_cache=False).logits[blocks.predicts].log_softmax(-1)
            for each in (model, language_model.model)
        )
        return float(functional.kl_div(log_p, log_q, log_target=True, reduction="batchmean"))


def test_each_step_is_that_of_adam_on_the_divergence_of_all_logits(llama, texts):
    edited = halved(llama)
    found = weights_of(distilled(llama, edited, texts, STEPS))
    model = copy.deepcopy(llama.model).requires_grad_(requires_grad=False)
    parameters = [model.get_parameter(projection.parameter_name) for projection, _ in edited]
    with torch.no_grad():
        for parameter, (_, weight) in zip(parameters, edited, strict=True):
            parameter.copy_(weight)
    groups = [
        {
            "params": [parameter.requires_grad_()],
            "lr": 0.02 * float(projection.weight.detach().std(unbiased=False)),
        }
        for parameter, (projection, _) in zip(parameters, edited, strict=True)
    ]
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(5)
    for step in range(3):
        optimizer.zero_grad()
        for rows in texts:
            part = rows.part(torch.randint(len(rows), (4,), generator=generator))
            log_p, log_q = (
                each(input_ids=part.ids, use_cache=False).logits[part.predicts].log_softmax(-1)
                for each in (model, llama.model)
            )
            loss = functional.kl_div(log_p, log_q.detach(), log_target=True, reduction="batchmean")
            (loss / 2).backward()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / 3)
        optimizer.step()
    # The mean of a tiny model's weights is near nought, so that their deviation is nearly their size.
    for parameter, weight in zip(parameters, found, strict=True):
        torch.testing.assert_close(weight, parameter.detach(), rtol=1e-3, atol=2e-5)


def test_an_edited_model_comes_nearer_to_its_base_on_all_texts(each_editable_model):
    sentences = english_sentences()
    texts = [
        text_blocks(each_editable_model, part, max_tokens=24) for part in (sentences[:6], sentences[6:12])
    ]
    edited = [(projection, projection.weight.detach() / 4) for projection, _ in halved(each_editable_model)]
    after = distilled(each_editable_model, edited, texts, Distillation(steps=40, learning_rate=0.05))
    assert [projection.key for projection, _ in after] == [projection.key for projection, _ in edited]
    if each_editable_model.model.config.model_type == "llama":
        for rows in texts:
            assert divergence(each_editable_model, after, rows) < 0.7 * divergence(
                each_editable_model, edited, rows
            )


def test_the_base_is_not_moved_and_a_seed_gives_the_same_bits(llama, texts):
    bits = {name: value.clone() for name, value in llama.model.state_dict().items()}
    edited = halved(llama, layers=(1,))
    given = [weight.clone() for _, weight in edited]
    told = []
    once = weights_of(distilled(llama, edited, texts, STEPS, on_step=told.append))
    again = weights_of(distilled(llama, edited, texts, STEPS))
    other = weights_of(distilled(llama, edited, texts, Distillation(3, 0.02, 4, seed=6)))
    assert told == [1, 2, 3]
    assert all(map(torch.equal, once, again))
    assert not any(map(torch.equal, once, other))
    assert all(torch.equal(value, bits[name]) for name, value in llama.model.state_dict().items())
    assert all(map(torch.equal, weights_of(edited), given))
    assert not any(parameter.grad is not None for parameter in llama.model.parameters())


def test_without_steps_or_without_an_edit_nothing_moves(llama, texts):
    edited = halved(llama)
    assert all(
        map(torch.equal, weights_of(distilled(llama, edited, texts, Distillation(0))), weights_of(edited))
    )
    same = [(projection, projection.weight.detach().clone()) for projection, _ in edited]
    # The base is where the divergence is least: its gradient is nought, and Adam makes nothing of that.
    for before, after in zip(weights_of(same), weights_of(distilled(llama, same, texts, STEPS)), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


def test_stopping_leaves_the_base_as_it_was(llama, texts):
    bits = {name: value.clone() for name, value in llama.model.state_dict().items()}

    def stop(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distilled(llama, halved(llama), texts, STEPS, on_step=stop)
    assert all(torch.equal(value, bits[name]) for name, value in llama.model.state_dict().items())
    assert any(parameter.requires_grad for parameter in llama.model.parameters())


def test_matrices_move_in_the_given_directions_alone(llama, texts):
    edited = halved(llama, layers=(1,))
    width = edited[0][1].shape[1]
    basis = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(2)))[0]
    given = {projection.key: basis[:, :3] for projection, _ in edited}
    after = weights_of(distilled(llama, edited, texts, STEPS, directions=given))
    for (_, before), moved in zip(edited, after, strict=True):
        change = moved - before
        assert change.abs().max() > 1e-3 * before.abs().max()
        nothing = torch.zeros(len(change), width - 3)
        torch.testing.assert_close(change @ basis[:, 3:], nothing, rtol=0, atol=1e-6)


def test_the_first_step_moves_a_matrix_by_its_share_of_its_size(llama, texts):
    """Adam steps by the learning rate in each entry; in few directions that is spread over all inputs."""
    edited = halved(llama, layers=(1,))
    width = edited[0][1].shape[1]
    few = {projection.key: torch.eye(width)[:, :4] for projection, _ in edited}
    for directions in (None, few):
        once = Distillation(1, 0.02, 4)
        after = weights_of(distilled(llama, edited, texts, once, directions=directions))
        for (projection, before), moved in zip(edited, after, strict=True):
            size = projection.weight.detach().square().mean().sqrt()
            found = (moved - before).square().mean().sqrt()
            torch.testing.assert_close(found, 0.02 * size, rtol=1e-2, atol=0)
