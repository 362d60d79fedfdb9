import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tests.kronfluence_factors import KronfluenceCollector
from tests.tiny_models import EDITABLE_ARCHITECTURES, english_sentences
from workers.science.curvature import collection
from workers.science.curvature.chunks import Chunks
from workers.science.curvature.kfac import Factors, collect_factors, eigenbases
from workers.science.errors import ScienceError, ScoreNotFinite
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.projections import Projection, Role, find_projections
from workers.science.models.token_blocks import TokenBlocks, pack_texts


@pytest.fixture(scope="module")
def blocks(llama):
    """About 900 tokens; the last block is padded. All tiny models share the tokenizer."""
    return pack_texts(llama, english_sentences()[:10], block_tokens=48)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def relative_error(ours, reference):
    return float((ours - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
@pytest.mark.parametrize("roles", [None, ["down", "o"]])
def test_factors_are_those_of_kronfluence(language_models, architecture, roles, blocks):
    language_model = language_models[architecture]
    projections = find_projections(language_model.model, layers=[0, 1], roles=roles)
    ours = collect_factors(language_model, blocks, projections, labels="gold", batch_blocks=3)
    oracle = KronfluenceCollector(language_model.model, [projection.path for projection in projections])
    activations, gradients = oracle.collect(blocks, batch_blocks=5)
    for projection in projections:
        size = projection.weight.shape[1]  # without the constant input that kronfluence adds for a bias
        factors = ours[projection.key]
        assert relative_error(factors.activations, activations[projection.path][:size, :size]) < 1e-5
        assert relative_error(factors.gradients, gradients[projection.path]) < 1e-5
        assert factors.tokens == blocks.predictions


@pytest.mark.parametrize("architecture", EDITABLE_ARCHITECTURES)
def test_factors_are_those_of_autograd_over_the_whole_model(language_models, architecture, blocks):
    """The oracle lets transformers find all logits and autograd the gradients of the modules' outputs."""
    language_model, model = language_models[architecture], language_models[architecture].model
    projections = find_projections(model, layers=[0, 1])
    seen = {}
    handles = [
        projection.module.register_forward_hook(
            lambda _module, inputs, output, key=projection.key: seen.update({key: (inputs[0], output)})
        )
        for projection in projections
    ]
    logits = model(blocks.ids, use_cache=False).logits.float()
    losses = nn.functional.cross_entropy(
        logits[blocks.predicts], blocks.labels[blocks.predicts], reduction="sum"
    )
    outputs = [seen[projection.key][1] for projection in projections]
    gradients = torch.autograd.grad(losses, outputs)
    for handle in handles:
        handle.remove()
    ours = collect_factors(language_model, blocks, projections, labels="gold", batch_blocks=4)
    places = blocks.predicts.flatten()
    for projection, gradient in zip(projections, gradients, strict=True):
        a = seen[projection.key][0].detach().flatten(0, -2)[places].double()
        g = gradient.flatten(0, -2)[places].double()
        g = g if projection.rows is None else g[:, projection.rows]
        factors = ours[projection.key]
        assert relative_error(factors.activations, a.T @ a / len(a)) < 1e-5
        assert relative_error(factors.gradients, g.T @ g / len(g)) < 1e-5


class LinearSoftmax(nn.Module):
    """The smallest language model: the next token's logits are a linear map of the token's vector."""

    def __init__(self, vectors, weight):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(vectors)
        self.linear = nn.Linear(*reversed(weight.shape), bias=False)
        self.linear.weight = nn.Parameter(weight)
        self.output = nn.Linear(len(weight), len(weight), bias=False)
        self.output.weight = nn.Parameter(torch.eye(len(weight)))
        self.config = types.SimpleNamespace(get_text_config=types.SimpleNamespace)

    @property
    def base_model(self):
        return self

    def get_output_embeddings(self):
        return self.output

    def forward(self, input_ids, **_options):
        return types.SimpleNamespace(last_hidden_state=self.linear(self.embedding(input_ids)))

    def as_language_model(self):
        cpu = torch.device("cpu")
        return LanguageModel(self, None, 0, 2, len(self.output.weight), cpu, torch.float32)

    def projection(self):
        return Projection(0, Role.UP, "linear", self.linear)


def pairs_as_blocks(pairs):
    ids = torch.tensor(pairs)
    return TokenBlocks(ids, torch.ones_like(ids, dtype=torch.bool))


def test_eigenpairs_are_those_of_the_exact_fisher_where_it_is_a_kronecker_product():
    """The labels' probabilities, 1/2 1/4 1/8 1/8, do not depend on the input: only its constant coordinate
    reaches the logits. Each input is followed by each label as often as its probability says, so the mean
    over the text is the exact expectation, and gradients are independent of inputs.
    """
    counts = torch.tensor([4, 2, 1, 1])
    vectors = torch.cat([torch.ones(4, 1), torch.randn(4, 4, generator=torch.Generator().manual_seed(3))], 1)
    weight = torch.zeros(4, 5)
    weight[:, 0] = (counts / 8).log()
    model = LinearSoftmax(vectors, weight)
    labels = torch.arange(4).repeat_interleave(counts)
    text = pairs_as_blocks([(word, label) for word in range(4) for label in labels.tolist()])
    factors = collect_factors(model.as_language_model(), text, [model.projection()], labels="gold")["linear"]

    fisher = torch.zeros(20, 20, dtype=torch.float64)
    probabilities = counts.double() / 8
    for vector in vectors.double():
        for label in range(4):
            gradient = torch.outer(probabilities - torch.eye(4, dtype=torch.float64)[label], vector).flatten()
            fisher += probabilities[label] / 4 * torch.outer(gradient, gradient)
    basis = eigenbases({"it": factors})["it"]
    products = torch.outer(basis.output_values, basis.input_values).flatten()
    exact = torch.linalg.eigvalsh(fisher)
    torch.testing.assert_close(products.sort().values, exact.clamp(min=0), rtol=1e-5, atol=1e-6)
    vectors_of_pairs = torch.kron(basis.output_vectors, basis.input_vectors)
    torch.testing.assert_close(fisher @ vectors_of_pairs, vectors_of_pairs * products, rtol=1e-5, atol=1e-6)


def test_sampled_labels_give_the_exact_fisher_in_expectation():
    """Exact: the mean over inputs of diag(p) - p p^T. The labels in the text are all 0 and play no part."""
    generator = torch.Generator().manual_seed(0)
    model = LinearSoftmax(torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator))
    text = pairs_as_blocks([(word, 0) for word in range(4)] * 5000)
    probabilities = (model.embedding.weight @ model.linear.weight.T).softmax(-1).detach()
    exact = (torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None]).mean(0)
    projection = [model.projection()]
    language_model = model.as_language_model()
    sampled = collect_factors(language_model, text, projection, labels="sampled", seed=1)["linear"]
    # The standard error of a mean of 20000 numbers in [-1, 1] is below 0.007; 4 of these.
    torch.testing.assert_close(sampled.gradients, exact, rtol=0, atol=0.02)
    gold = collect_factors(language_model, text, projection, labels="gold")["linear"]
    assert (gold.gradients - exact).abs().max() > 0.1


def test_sampled_labels_hang_on_the_seed_and_not_on_the_batches(llama, blocks):
    projections = find_projections(llama.model, layers=[1])

    def gradients(seed, batch_blocks):
        factors = collect_factors(llama, blocks, projections, seed=seed, batch_blocks=batch_blocks)
        return factors["model.layers.1.mlp.up_proj"].gradients

    assert torch.equal(gradients(1, 4), gradients(1, 4))
    assert relative_error(gradients(1, 4), gradients(1, 1)) < 1e-5
    assert relative_error(gradients(1, 4), gradients(2, 4)) > 1e-2


def test_padding_changes_nothing(llama, blocks):
    projections = find_projections(llama.model, layers=[0, 1], roles=["gate", "down"])
    wider = TokenBlocks(
        nn.functional.pad(blocks.ids, (0, 20), value=5), nn.functional.pad(blocks.mask, (0, 20), value=False)
    )
    narrow = collect_factors(llama, blocks, projections, labels="gold")
    wide = collect_factors(llama, wider, projections, labels="gold")
    for key, factors in narrow.items():
        assert factors.tokens == wide[key].tokens
        assert relative_error(wide[key].activations, factors.activations) < 1e-5
        assert relative_error(wide[key].gradients, factors.gradients) < 1e-5


def test_lanes_give_the_factors_of_one_and_the_same_bits_again(llama, blocks, two_threads):
    projections = find_projections(llama.model, layers=[0, 1])
    first, again = (collect_factors(llama, blocks, projections, batch_blocks=2) for _ in range(2))
    torch.set_num_threads(1)
    alone = collect_factors(llama, blocks, projections, batch_blocks=2)
    for key, factors in first.items():
        assert torch.equal(factors.gradients, again[key].gradients)
        assert torch.equal(factors.activations, again[key].activations)
        assert relative_error(factors.gradients, alone[key].gradients) < 1e-5
        assert relative_error(factors.activations, alone[key].activations) < 1e-5


def test_gate_and_up_share_their_inputs_factor(llama, language_models, blocks):
    for language_model in (llama, language_models["phi3"]):
        projections = find_projections(language_model.model, layers=[0, 1])
        gate_0, up_0, gate_1, up_1 = collect_factors(language_model, blocks, projections).values()
        assert gate_0.activations is up_0.activations
        assert gate_1.activations is up_1.activations
        assert gate_0.activations is not gate_1.activations
    done: list[int] = []
    bases = eigenbases({"gate": gate_0, "up": up_0}, on_progress=done.append)
    assert done == [1, 2]
    assert bases["gate"].input_vectors is bases["up"].input_vectors
    alone = eigenbases({"up": up_0})["up"]
    for name in ("output_vectors", "output_values", "input_vectors", "input_values"):
        assert torch.equal(getattr(alone, name), getattr(bases["up"], name))


def test_a_factor_wider_than_a_block_is_whole_and_symmetric(monkeypatch, llama, blocks):
    projections = find_projections(llama.model, layers=[1])
    whole = collect_factors(llama, blocks, projections)
    monkeypatch.setattr("workers.science.curvature.packed._SMALLEST_BLOCK", 7)
    for key, factors in collect_factors(llama, blocks, projections).items():
        assert relative_error(factors.gradients, whole[key].gradients) < 1e-6
        assert relative_error(factors.gradients.T, factors.gradients) < 1e-6


def test_factors_of_a_half_precision_model_are_float32_and_close(checkpoints, llama, blocks):
    half = load_language_model(checkpoints["llama"], device="cpu", dtype="bfloat16")
    ours = collect_factors(half, blocks, find_projections(half.model), labels="gold")
    exact = collect_factors(llama, blocks, find_projections(llama.model), labels="gold")
    for key, factors in ours.items():
        assert factors.gradients.dtype == factors.activations.dtype == torch.float32
        assert relative_error(factors.activations, exact[key].activations) < 0.05
        assert relative_error(factors.gradients, exact[key].gradients) < 0.05


class Stopped(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("where", ["progress", "backward", "loss"])
def test_a_collection_that_stops_midway_leaves_nothing_behind(
    llama, blocks, monkeypatch, two_threads, where, threads
):
    torch.set_num_threads(threads)
    model = llama.model
    model.train()
    model.model.norm.eval()
    frozen_parameter = next(model.parameters()).requires_grad_(False)  # noqa: FBT003
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    training = {name: module.training for name, module in model.named_modules()}

    def stop(*_arguments):
        raise Stopped

    if where == "backward":
        monkeypatch.setattr("workers.science.curvature.factor_hooks.Recorder._add_gradients", stop)
    elif where == "loss":
        monkeypatch.setattr(collection, "loss_gradients", lambda *_arguments, **_options: stop())
    try:
        with pytest.raises(Stopped):
            collect_factors(
                llama,
                blocks,
                find_projections(model),
                batch_blocks=2,
                on_progress=stop if where == "progress" else None,
            )
        assert {name: module.training for name, module in model.named_modules()} == training
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trainable == {name for name, _ in model.named_parameters()} - {"model.embed_tokens.weight"}
    finally:
        model.eval()
        frozen_parameter.requires_grad_()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.get_num_threads() == threads


def test_progress_counts_blocks(llama, blocks, two_threads):
    """No batch reaches from one chunk into the next, and of two lanes each tells what both have done."""
    seen = []
    chunks = Chunks(len(blocks), 7)
    projections = find_projections(llama.model)
    collect_factors(llama, blocks, projections, batch_blocks=3, chunks=chunks, on_progress=seen.append)
    sizes = sorted(after - before for before, after in pairwise([0, *seen]))
    assert (sizes, seen[-1]) == ([1] * (len(blocks) // 7) + [3] * (2 * len(blocks) // 7), len(blocks))


def test_a_block_without_a_prediction_adds_nothing(llama, blocks):
    projections = find_projections(llama.model)
    lonely = TokenBlocks(
        torch.cat([blocks.ids, blocks.ids[:1]]), torch.cat([blocks.mask, torch.arange(48)[None] < 1])
    )
    with_it, without = (
        collect_factors(llama, each, projections, batch_blocks=1, labels="gold", chunks=Chunks(len(each), 4))
        for each in (lonely, blocks)
    )
    for key, factors in with_it.items():
        assert torch.equal(factors.gradients, without[key].gradients)
    with pytest.raises(ScienceError) as refusal:
        collect_factors(llama, lonely.part(slice(-1, None)), projections)
    assert refusal.value.code == "text_set_empty"


def test_factors_that_are_not_finite_are_refused(checkpoints, blocks):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    with torch.no_grad():
        language_model.model.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(ScoreNotFinite) as refusal:
        collect_factors(language_model, blocks, find_projections(language_model.model))
    assert refusal.value.code == "factors_not_finite"


@pytest.mark.parametrize(("projections", "labels"), [([], "gold"), (None, "silver")])
def test_nothing_to_collect_and_unknown_labels_are_refused(llama, blocks, projections, labels):
    chosen = find_projections(llama.model) if projections is None else projections
    with pytest.raises(ValueError, match="projections"):
        collect_factors(llama, blocks, chosen, labels=labels)


def test_eigenvalues_descend_and_rounding_below_zero_becomes_zero():
    vectors = torch.linalg.qr(torch.randn(30, 4, generator=torch.Generator().manual_seed(5)).double()).Q
    low_rank = (vectors * torch.tensor([4.0, 3.0, 2.0, 1.0]) @ vectors.T).float()
    low = Factors(activations=low_rank, gradients=torch.eye(2), tokens=1)
    basis = eigenbases({"it": low})["it"]
    values = basis.input_values
    assert values.dtype == torch.float64
    assert (values.diff() <= 0).all()
    assert (values >= 0).all()
    np.testing.assert_allclose(values[:5], [4, 3, 2, 1, 0], atol=1e-6)
    torch.testing.assert_close(
        (basis.input_vectors * values) @ basis.input_vectors.T, low_rank.double(), rtol=0, atol=1e-6
    )
