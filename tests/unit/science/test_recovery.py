"""Recovery of an edited model. Oracles: torch's losses of all logits and Adam, on a copy; identities."""

import copy

import pytest
import torch
from torch.nn import functional

from tests.tiny_models import english_sentences
from workers.science.curvature import collection
from workers.science.curvature.kfac import collect_factors
from workers.science.curvature.recovery import Recovery, largest_inputs, recovered
from workers.science.errors import RecoveryDiverged
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts, text_blocks
from workers.science.models.weight_edit import hidden_states_with, replaced

STEPS = Recovery(steps=3, learning_rate=0.02, batch_rows=4, seed=5)


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


def losses(language_model, edited, texts):
    """Mean NLL on all rows of the one text, and mean KL(base || edited) on all rows of the other."""
    retained, ordinary = (rows.part(list(range(len(rows)))) for rows in texts)
    model = language_model.model
    with torch.no_grad():
        wanted = model(input_ids=ordinary.ids, use_cache=False).logits[ordinary.predicts].log_softmax(-1)
        with replaced(edited):
            log_p, of_ordinary = (
                model(input_ids=part.ids, use_cache=False).logits[part.predicts].log_softmax(-1)
                for part in (retained, ordinary)
            )
        loss = functional.nll_loss(log_p, retained.labels[retained.predicts])
        return float(loss), float(
            functional.kl_div(of_ordinary, wanted, log_target=True, reduction="batchmean")
        )


def test_each_step_is_that_of_adam_on_the_losses_of_all_logits(llama, texts):
    edited = halved(llama)
    found = weights_of(recovered(llama, edited, texts, STEPS))
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
        retained, ordinary = (
            rows.part(torch.randint(len(rows), (4,), generator=generator)) for rows in texts
        )
        log_p, of_ordinary, wanted = (
            each(input_ids=part.ids, use_cache=False).logits[part.predicts].log_softmax(-1)
            for each, part in ((model, retained), (model, ordinary), (llama.model, ordinary))
        )
        loss = functional.nll_loss(log_p, retained.labels[retained.predicts])
        loss += functional.kl_div(of_ordinary, wanted.detach(), log_target=True, reduction="batchmean")
        (loss / 2).backward()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / 3)
        optimizer.step()
    # The mean of a tiny model's weights is near nought, so that their deviation is nearly their size.
    for parameter, weight in zip(parameters, found, strict=True):
        torch.testing.assert_close(weight, parameter.detach(), rtol=1e-3, atol=2e-5)


def test_the_losses_that_are_descended_fall(each_editable_model):
    sentences = english_sentences()
    texts = tuple(
        text_blocks(each_editable_model, part, max_tokens=24) for part in (sentences[:6], sentences[6:12])
    )
    edited = [(projection, projection.weight.detach() / 4) for projection, _ in halved(each_editable_model)]
    after = recovered(each_editable_model, edited, texts, Recovery(steps=40, learning_rate=0.05))
    assert [projection.key for projection, _ in after] == [projection.key for projection, _ in edited]
    before, later = (losses(each_editable_model, each, texts) for each in (edited, after))
    assert later[0] < before[0] - 0.05
    assert sum(later) < sum(before) - 0.05


def test_rows_that_go_through_the_model_apart_give_the_same(llama, texts, monkeypatch):
    whole = weights_of(recovered(llama, halved(llama), texts, STEPS))
    monkeypatch.setattr(collection, "_CPU_BATCH_TOKENS", 1)
    for apart, together in zip(weights_of(recovered(llama, halved(llama), texts, STEPS)), whole, strict=True):
        torch.testing.assert_close(apart, together, rtol=1e-3, atol=2e-5)


def test_a_recovery_that_diverges_is_said_to(llama, texts):
    with pytest.raises(RecoveryDiverged, match="learning rate"):
        recovered(llama, halved(llama), texts, Recovery(steps=5, learning_rate=1e38))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_states_with_other_weights_are_those_of_a_model_that_has_them(each_editable_model, dtype):
    """Also where projections are parts of one matrix, or lie the other way round."""
    model = copy.deepcopy(each_editable_model.model).to(dtype)
    edited = [
        (projection, projection.weight.detach() / 2) for projection in find_projections(model, layers=(0, 1))
    ]
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        found = hidden_states_with(model, edited, ids)
        with replaced(edited):
            expected = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        assert not torch.equal(expected, model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    assert torch.equal(found, expected)


def test_the_base_is_not_moved_and_a_seed_gives_the_same_bits(llama, texts):
    bits = {name: value.clone() for name, value in llama.model.state_dict().items()}
    edited = halved(llama, layers=(1,))
    given = [weight.clone() for _, weight in edited]
    told = []
    once = weights_of(recovered(llama, edited, texts, STEPS, on_step=told.append))
    again = weights_of(recovered(llama, edited, texts, STEPS))
    other = weights_of(recovered(llama, edited, texts, Recovery(3, 0.02, 4, seed=6)))
    assert told == [1, 2, 3]
    assert all(map(torch.equal, once, again))
    assert not any(map(torch.equal, once, other))
    assert all(torch.equal(value, bits[name]) for name, value in llama.model.state_dict().items())
    assert all(map(torch.equal, weights_of(edited), given))
    assert not any(parameter.grad is not None for parameter in llama.model.parameters())


def test_without_steps_nothing_moves(llama, texts):
    edited = halved(llama)
    assert all(map(torch.equal, weights_of(recovered(llama, edited, texts, Recovery(0))), weights_of(edited)))


def test_stopping_leaves_the_base_as_it_was(llama, texts):
    bits = {name: value.clone() for name, value in llama.model.state_dict().items()}

    def stop(_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recovered(llama, halved(llama), texts, STEPS, on_step=stop)
    assert all(torch.equal(value, bits[name]) for name, value in llama.model.state_dict().items())
    assert any(parameter.requires_grad for parameter in llama.model.parameters())


def test_the_largest_inputs_hold_most_of_what_comes_in(llama, texts):
    """Oracle: no other directions hold more of the trace than the first eigenvalues (Ky Fan 1949)."""
    factors = collect_factors(llama, texts[1], find_projections(llama.model, layers=(0, 1)))
    found = largest_inputs(factors, 3)
    assert found.keys() == factors.keys()
    for key, directions in found.items():
        inputs = factors[key].activations.double()
        torch.testing.assert_close(directions.T @ directions, torch.eye(3, dtype=torch.float64))
        held = (directions.T @ inputs @ directions).trace()
        torch.testing.assert_close(held, torch.linalg.eigvalsh(inputs)[-3:].sum())
    gates = [key for key in found if "gate" in key]
    assert all(found[gate] is found[gate.replace("gate", "up")] for gate in gates)
    width = len(factors[gates[0]].activations)
    assert largest_inputs(factors, 10 * width)[gates[0]].shape == (width, width)


def test_matrices_move_in_the_given_directions_alone(llama, texts):
    edited = halved(llama, layers=(1,))
    width = edited[0][1].shape[1]
    basis = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(2)))[0]
    given = {projection.key: basis[:, :3] for projection, _ in edited}
    after = weights_of(recovered(llama, edited, texts, STEPS, directions=given))
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
        once = Recovery(1, 0.02, 4)
        after = weights_of(recovered(llama, edited, texts, once, directions=directions))
        for (projection, before), moved in zip(edited, after, strict=True):
            size = projection.weight.detach().square().mean().sqrt()
            found = (moved - before).square().mean().sqrt()
            torch.testing.assert_close(found, 0.02 * size, rtol=1e-2, atol=0)
