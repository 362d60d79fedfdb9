import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from tests.tiny_models import EDITABLE_ARCHITECTURES
from workers.science.errors import ProjectionNotFound
from workers.science.models.projections import Projection, Role, default_layers, find_projections, layer_count

UNGATED = ("gpt_neox", "gpt2", "opt")
FUSED_ATTENTION = ("gpt_neox", "gpt2", "phi3")
ATTENTION_INPUTS = {Role.Q, Role.K, Role.V, Role.QKV}


@pytest.mark.parametrize(
    ("n_layers", "layers"),
    [(1, [0]), (2, [1]), (4, [3]), (6, [4, 5]), (16, [12, 13, 14]), (32, [23, 24, 25])],
)
def test_default_layers_are_three_late_ones_as_far_as_the_model_has_them(n_layers, layers):
    assert default_layers(n_layers) == layers


@pytest.mark.parametrize("architecture", EDITABLE_ARCHITECTURES)
def test_gate_and_up_are_chosen_by_default_as_far_as_the_architecture_has_them(language_models, architecture):
    model = language_models[architecture].model
    projections = find_projections(model)
    roles = [Role.UP] if architecture in UNGATED else [Role.GATE, Role.UP]
    assert [(projection.layer, projection.role) for projection in projections] == [
        (1, role) for role in roles
    ]
    assert layer_count(model) == 2


@pytest.mark.parametrize("architecture", EDITABLE_ARCHITECTURES)
def test_writing_changes_exactly_the_named_parameter(language_models, architecture):
    model = copy.deepcopy(language_models[architecture].model)
    roles = {Role.UP, Role.DOWN, Role.O} if architecture in UNGATED else set(Role) - ATTENTION_INPUTS
    roles |= {Role.QKV} if architecture in FUSED_ATTENTION else {Role.Q, Role.K, Role.V}
    projections = find_projections(model, layers=[1], roles=sorted(roles))
    assert {projection.role for projection in projections} == roles
    for projection in projections:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        replacement = torch.arange(projection.weight.numel(), dtype=torch.float64).view(
            projection.weight.shape
        )
        projection.write(replacement)
        assert torch.equal(projection.weight, replacement.float())
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {projection.parameter_name}


def test_each_projection_is_the_linear_map_that_its_module_applies(each_editable_model):
    """The oracle is the module itself: its outputs with zero bias are inputs times weight transposed."""
    for projection in find_projections(each_editable_model.model, layers=[0]):
        inputs = torch.randn(5, projection.weight.shape[1], generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            outputs = projection.module(inputs) - projection.module(torch.zeros_like(inputs))
            if projection.rows is not None:
                outputs = outputs[:, projection.rows]
            torch.testing.assert_close(outputs, inputs @ projection.weight.T, rtol=1e-5, atol=1e-5)


def test_a_transposed_module_is_written_like_a_plain_linear():
    convolution, linear = Conv1D(3, 2), torch.nn.Linear(2, 3)
    weight = torch.randn(3, 2)
    Projection(0, Role.UP, "c_fc", convolution, transposed=True).write(weight)
    Projection(0, Role.UP, "fc1", linear).write(weight)
    with torch.no_grad():
        linear.bias.zero_()
        inputs = torch.randn(4, 2)
        torch.testing.assert_close(convolution(inputs), linear(inputs))


def test_a_fused_matrix_is_split_as_the_model_splits_it(language_models):
    """With the gate's rows at zero Phi-3's MLP gives zero, since silu(0) = 0; likewise for up."""
    for role in (Role.GATE, Role.UP):
        model = copy.deepcopy(language_models["phi3"].model)
        (projection,) = find_projections(model, layers=[0], roles=[role])
        mlp = model.model.layers[0].mlp
        inputs = torch.randn(1, 3, 32)
        with torch.inference_mode():
            other = mlp.gate_up_proj(inputs).chunk(2, dim=-1)[role is Role.GATE]
            projection.write(torch.zeros_like(projection.weight))
            assert not mlp(inputs).any()
            torch.testing.assert_close(mlp.gate_up_proj(inputs).chunk(2, dim=-1)[role is Role.GATE], other)
        assert projection.key == f"model.layers.0.mlp.gate_up_proj[{role}]"


def test_the_weight_is_cast_to_the_dtype_of_the_model():
    linear = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    Projection(0, Role.UP, "fc1", linear).write(torch.full((2, 2), 1 / 3, dtype=torch.float64))
    assert linear.weight.dtype == torch.bfloat16
    assert torch.equal(linear.weight, torch.full((2, 2), 1 / 3, dtype=torch.bfloat16))


def test_a_weight_of_another_shape_is_refused_rather_than_broadcast(llama):
    (projection,) = find_projections(llama.model, layers=[0], roles=["up"])
    before = projection.weight.clone()
    with pytest.raises(ValueError, match="is \\[64, 32\\], not \\[1, 32\\]"):
        projection.write(torch.zeros(1, 32))
    assert torch.equal(projection.weight, before)


@pytest.mark.parametrize(
    ("layers", "roles", "code", "words"),
    [
        ([2], None, "layer_not_found", ["layers 0 to 1"]),
        ([-1], None, "layer_not_found", ["layers 0 to 1"]),
        ([], None, "layer_not_found", ["layers 0 to 1"]),
        ([0], ["sideways"], "role_unknown", ["gate, up, down, q, k, v, qkv, o"]),
        ([0], [], "role_unknown", ["gate"]),
        ([0], ["qkv", "up"], "projection_not_found", ["no qkv", "q (model.layers.0.self_attn.q_proj)"]),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(llama, layers, roles, code, words):
    with pytest.raises(ProjectionNotFound) as refusal:
        find_projections(llama.model, layers=layers, roles=roles)
    assert refusal.value.code == code
    assert all(word in refusal.value.detail for word in words)


def test_a_mixture_of_experts_is_refused_but_its_attention_can_be_edited():
    config = AutoConfig.for_model(
        "qwen2_moe",
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        num_experts=2,
        num_experts_per_tok=1,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ProjectionNotFound, match="no gate or up projection that can be edited"):
        find_projections(model, layers=[1])
    assert [projection.role for projection in find_projections(model, layers=[1], roles=["o", "q"])] == [
        "q",
        "o",
    ]


def test_repeated_layers_and_roles_are_given_once_and_in_order(llama):
    projections = find_projections(llama.model, layers=[1, 0, 1], roles=["up", "gate", "up"])
    assert [(projection.layer, projection.role) for projection in projections] == [
        (layer, role) for layer in (0, 1) for role in (Role.GATE, Role.UP)
    ]
