import copy

import pytest
import torch
from torch import nn

from tests.tiny_models import english_sentences
from workers.science.curvature.kfac import Eigenbasis, collect_factors, eigenbases
from workers.science.curvature.spectrum import select_top_mass
from workers.science.models.projections import Projection, Role, find_projections
from workers.science.models.token_blocks import pack_texts
from workers.science.models.weight_edit import project, replaced


@pytest.fixture(scope="module")
def blocks(llama):
    return pack_texts(llama, english_sentences()[:10], block_tokens=48)


def basis_of(language_model, blocks, projection):
    return eigenbases(collect_factors(language_model, blocks, [projection], labels="gold"))[projection.key]


def edited(weight, basis, keep_mass):
    return project(weight, basis, select_top_mass(basis.output_values, basis.input_values, keep_mass))


def bits_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_bits(model, bits):
    return all(
        torch.equal(value.view(torch.int32), bits[name].view(torch.int32))
        for name, value in model.state_dict().items()
    )


@pytest.mark.parametrize("keep_mass", [0.3, 0.6, 0.9])
def test_the_edit_is_the_sum_over_kept_pairs_of_eigenvectors(llama, blocks, keep_mass):
    """The oracle adds u_i (u_i^T W v_j) v_j^T pair by pair, the pairs taken from a full sort."""
    (projection,) = find_projections(llama.model, layers=[1], roles=["up"])
    basis = basis_of(llama, blocks, projection)
    weight = projection.weight.double()
    products = torch.outer(basis.output_values, basis.input_values).flatten()
    sorted_products, order = products.sort(descending=True, stable=True)
    count = int((sorted_products.cumsum(0) < keep_mass * products.sum()).sum()) + 1
    expected = torch.zeros_like(weight)
    for pair in order[:count].tolist():
        i, j = divmod(pair, weight.shape[1])
        u, v = basis.output_vectors[:, i], basis.input_vectors[:, j]
        expected += torch.outer(u, v) * (u @ weight @ v)
    torch.testing.assert_close(edited(projection.weight, basis, keep_mass), expected, rtol=1e-9, atol=1e-9)


def test_keeping_the_whole_mass_gives_every_weight_back(each_editable_model, blocks):
    for projection in find_projections(each_editable_model.model):
        basis = basis_of(each_editable_model, blocks, projection)
        whole = edited(projection.weight, basis, 1.0).float()
        torch.testing.assert_close(whole, projection.weight, rtol=1e-5, atol=1e-5)


def test_projecting_twice_changes_nothing_but_rounding(llama, blocks):
    (projection,) = find_projections(llama.model, layers=[1], roles=["gate"])
    basis = basis_of(llama, blocks, projection)
    once = edited(projection.weight, basis, 0.6)
    torch.testing.assert_close(edited(once, basis, 0.6), once, rtol=1e-10, atol=1e-10)
    assert (once - projection.weight).norm() > 0.1 * projection.weight.norm()
    rounded_between = edited(once.float(), basis, 0.6)
    torch.testing.assert_close(rounded_between, once, rtol=1e-5, atol=1e-5)


def test_a_basis_in_float32_edits_as_one_in_float64(llama, blocks):
    (projection,) = find_projections(llama.model, layers=[1], roles=["up"])
    basis = basis_of(llama, blocks, projection)
    single = Eigenbasis(*(value.float() for value in vars(basis).values()))
    result = project(projection.weight, single, select_top_mass(basis.output_values, basis.input_values, 0.6))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), edited(projection.weight, basis, 0.6), rtol=1e-5, atol=1e-5)


def test_weights_are_replaced_for_a_while_and_put_back_bit_by_bit(each_editable_model):
    model = copy.deepcopy(each_editable_model.model)
    projections = find_projections(model, layers=[0, 1])
    bits = bits_of(model)
    with replaced([(projection, projection.weight * 0.37) for projection in projections]):
        for projection in projections:
            original = projection.of_parameter(bits[projection.parameter_name])
            assert torch.equal(projection.weight, original * 0.37)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, bits[name])}
        assert changed == {projection.parameter_name for projection in projections}
    assert same_bits(model, bits)


def test_weights_are_put_back_after_a_failure_inside_or_while_writing(llama):
    bits = bits_of(llama.model)
    gate, up = find_projections(llama.model, layers=[0])
    with pytest.raises(KeyboardInterrupt), replaced([(gate, gate.weight * 2)]):
        raise KeyboardInterrupt
    assert same_bits(llama.model, bits)
    with pytest.raises(ValueError, match="is"), replaced([(gate, gate.weight * 2), (up, torch.zeros(1))]):
        pytest.fail("never entered")
    assert same_bits(llama.model, bits)


def test_half_precision_bits_and_odd_numbers_come_back():
    linear = nn.Linear(3, 1, bias=False, dtype=torch.bfloat16)
    odd = torch.tensor([[float("nan"), -0.0, 1e-40]], dtype=torch.bfloat16)
    with torch.no_grad():
        linear.weight.copy_(odd)
    projection = Projection(0, Role.UP, "up", linear)
    with replaced([(projection, torch.ones(1, 3)), (projection, torch.zeros(1, 3))]):
        assert not linear.weight.any()
    assert torch.equal(linear.weight.view(torch.int16), odd.view(torch.int16))
