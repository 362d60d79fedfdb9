"""A model that is spread over two GPUs against the same whole on a CPU, in float32."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tiny_models import ARCHITECTURES, english_sentences, save_tiny_model
from workers.science.baselines.balanced_subnet import BalancedSubnetOptions, learn_subnet
from workers.science.curvature.kfac import collect_factors, eigenbases
from workers.science.curvature.recovery import Recovery, recovered
from workers.science.curvature.spectrum import select_top_mass
from workers.science.models.configuration import read_configuration
from workers.science.models.loading import load_language_model
from workers.science.models.placing import place_on
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts
from workers.science.models.weight_edit import project, replaced
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]

GPUS = [torch.device("cuda", place) for place in range(2)]
TEXTS = [TextInput(text) for text in english_sentences()[:20]]


@pytest.fixture(params=ARCHITECTURES)
def both(request, tmp_path):
    """Whole on the CPU, and spread: the second of two layers on the second GPU."""
    directory = save_tiny_model(tmp_path, request.param)
    whole = load_language_model(directory, device="cpu")
    config = read_configuration(directory)
    parts = place_on(dict.fromkeys(GPUS, 1), config.model_class, config.values, torch.float32).device_map
    device_map = {part: GPUS[part.endswith(".1")] for part in parts}
    model = AutoModelForCausalLM.from_pretrained(directory, device_map=device_map).eval()
    spread = replace(whole, model=model, device=GPUS[0])
    assert {projection.weight.device for projection in projections_of(spread)} == set(GPUS)
    return whole, spread


def projections_of(language_model):
    return find_projections(language_model.model, layers=[0, 1])


def test_it_scores_as_the_whole_one(both):
    theirs, ours = (score_texts(each, TEXTS, ScoringOptions()) for each in both)
    for here, there in zip(ours, theirs, strict=True):
        assert here.nl == pytest.approx(there.nl, abs=1e-4)
        assert here.metrics["extraction"] == there.metrics["extraction"]


def test_its_curvature_is_where_its_weights_are_and_that_of_the_whole_one(both):
    blocks = pack_texts(both[0], english_sentences()[:10], block_tokens=48)
    theirs, ours = (collect_factors(each, blocks, projections_of(each), labels="gold") for each in both)
    for projection in projections_of(both[1]):
        for side in ("activations", "gradients"):
            here, there = (getattr(found[projection.key], side) for found in (ours, theirs))
            assert here.device == projection.weight.device
            torch.testing.assert_close(here.cpu(), there, rtol=1e-3, atol=1e-3 * float(there.abs().max()))


def test_its_edits_are_made_where_its_weights_are(both):
    spread = both[1]
    blocks = pack_texts(spread, english_sentences()[:10], block_tokens=48)
    projections = projections_of(spread)
    bases = eigenbases(collect_factors(spread, blocks, projections))
    weights = []
    for projection in projections:
        basis = bases[projection.key]
        kept = select_top_mass(basis.output_values, basis.input_values, 0.6)
        weights.append((projection, project(projection.weight, basis, kept)))
        assert weights[-1][1].device == projection.weight.device
    before = score_texts(spread, TEXTS, ScoringOptions(decode=False))
    with replaced(weights):
        during = score_texts(spread, TEXTS, ScoringOptions(decode=False))
    after = score_texts(spread, TEXTS, ScoringOptions(decode=False))
    assert [each.nl for each in during] != [each.nl for each in before]
    assert [each.nl for each in after] == pytest.approx([each.nl for each in before], abs=1e-6)


def test_a_subnet_of_it_has_as_many_weights_as_are_asked_for(both):
    spread = both[1]
    blocks = pack_texts(spread, english_sentences()[:6], block_tokens=48)
    projections = projections_of(spread)
    options = BalancedSubnetOptions(epochs=1, ratio=0.1)
    masks = learn_subnet(spread, projections, blocks, blocks, options)
    weights = sum(projection.weight.numel() for projection in projections)
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.1 * weights)
    assert [mask.device for mask in masks.values()] == [each.weight.device for each in projections]


def test_recovery_of_it_is_that_of_the_whole_model(both):
    moved = []
    for language_model in both:
        blocks = pack_texts(language_model, english_sentences()[:6], block_tokens=48)
        edited = [(each, each.weight.detach() / 2) for each in projections_of(language_model)]
        found = recovered(language_model, edited, (blocks, blocks), Recovery(steps=2, batch_rows=4))
        assert [weight.device for _, weight in found] == [each.weight.device for each, _ in edited]
        moved.append([weight.cpu() for _, weight in found])
    for whole, spread in zip(*moved, strict=True):
        torch.testing.assert_close(spread, whole, rtol=1e-3, atol=1e-4)
