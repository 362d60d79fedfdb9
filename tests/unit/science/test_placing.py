"""Where the weights of a model go, by the room on GPUs that need not be there."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from transformers import AutoModelForCausalLM

from tests.tiny_models import EDITABLE_ARCHITECTURES, english_sentences
from workers.science.baselines.balanced_subnet import BalancedSubnetOptions, learn_subnet
from workers.science.curvature.kfac import collect_factors
from workers.science.models.configuration import read_configuration
from workers.science.models.loading import LanguageModel
from workers.science.models.placing import place_on, spread
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts
from workers.science.scoring.likelihood import base_hidden_states
from workers.science.scoring.packing import packed_hidden_states

CPU = torch.device("cpu")
GPUS = [torch.device("cuda", place) for place in range(3)]


@pytest.mark.parametrize(
    ("sizes", "rooms", "places"),
    [
        ([1] * 4, [10, 10], [0, 0, 1, 1]),
        ([1] * 4, [10, 30], [0, 1, 1, 1]),
        ([1] * 4, [0, 10], [1, 1, 1, 1]),
        ([1] * 6, [10, 10, 10], [0, 0, 1, 1, 2, 2]),
        ([3, 1, 1, 1], [10, 10], [0, 1, 1, 1]),
        # More than there is room for is spread all the same, and runs out of memory where it is loaded.
        ([9] * 4, [10, 10], [0, 0, 1, 1]),
    ],
)
def test_layers_fill_all_devices_alike(sizes: list[float], rooms: list[float], places: list[int]) -> None:
    assert spread(sizes, rooms) == places


def bytes_of(directory: Path) -> int:
    model = AutoModelForCausalLM.from_pretrained(directory)
    return 4 * sum(parameter.numel() for parameter in model.parameters())


def test_a_model_stays_whole_on_the_device_with_most_room(checkpoints: dict[str, Path]) -> None:
    config = read_configuration(checkpoints["llama"])
    room = int(bytes_of(checkpoints["llama"]) / 0.8) + 1
    placing = place_on({GPUS[0]: room - 100, GPUS[1]: room}, config.model_class, config.values, torch.float32)
    assert (placing.device, placing.device_map) == (GPUS[1], None)
    # In half the bytes it fits anywhere; and on one device it has to.
    for free, dtype in (({GPUS[0]: room // 2 + 1}, torch.bfloat16), ({GPUS[0]: 1}, torch.float32)):
        placing = place_on(free, config.model_class, config.values, dtype)
        assert (placing.device, placing.device_map) == (GPUS[0], None)


@pytest.mark.parametrize("architecture", EDITABLE_ARCHITECTURES)
def test_a_larger_one_is_spread_and_each_of_its_weights_has_one_place(
    checkpoints: dict[str, Path], architecture: str
) -> None:
    config = read_configuration(checkpoints[architecture])
    room = bytes_of(checkpoints[architecture])
    placing = place_on({GPUS[0]: room, GPUS[2]: room}, config.model_class, config.values, torch.float32)
    assert placing.device == GPUS[0]
    assert placing.device_map is not None
    assert set(placing.device_map.values()) == {GPUS[0], GPUS[2]}
    with torch.device("meta"):
        model = config.model_class(config.values)
    for name, _ in model.named_parameters(remove_duplicate=False):
        places = [part for part in placing.device_map if f"{name}.".startswith(f"{part}.")]
        assert len(places) == 1, name
        # The embedding of so small a model leaves its device room for one layer at most.
        layer = places[0].rpartition(".")[2]
        where = placing.device_map[places[0]]
        assert where == GPUS[0] if not layer.isdecimal() else layer == "0" or where == GPUS[2], name


def spread_model(language_model: LanguageModel) -> LanguageModel:
    """With the hooks that carry numbers between devices, where all of them are the processor."""
    model = copy.deepcopy(language_model.model)
    placing = place_on({CPU: 1, GPUS[0]: 1}, type(model), model.config, torch.float32)
    assert placing.device_map is not None
    dispatch_model(
        model,
        dict.fromkeys(placing.device_map, CPU),
        skip_keys=model._skip_keys_device_placement,
        force_hooks=True,
    )
    assert hasattr(model.get_input_embeddings(), "_hf_hook")
    return replace(language_model, model=model)


@torch.inference_mode()
def test_a_spread_model_gives_the_numbers_of_a_whole_one(each_editable_model: LanguageModel) -> None:
    model = spread_model(each_editable_model).model
    token_ids = torch.arange(20)
    torch.testing.assert_close(
        base_hidden_states(model, token_ids[None]),
        base_hidden_states(each_editable_model.model, token_ids[None]),
    )
    torch.testing.assert_close(
        packed_hidden_states(model, token_ids, (12, 8)),
        packed_hidden_states(each_editable_model.model, token_ids, (12, 8)),
    )


def test_a_spread_model_is_learned_from_as_a_whole_one(each_editable_model: LanguageModel) -> None:
    """Backward passes through the same hooks: curvature, and a model that is called with other weights."""
    blocks = pack_texts(each_editable_model, english_sentences()[:4], block_tokens=48)
    found = []
    for language_model in (each_editable_model, spread_model(each_editable_model)):
        projections = find_projections(language_model.model, layers=[0, 1])
        factors = collect_factors(language_model, blocks, projections)
        options = BalancedSubnetOptions(epochs=1, ratio=0.1)
        masks = learn_subnet(language_model, projections, blocks, blocks, options)
        sides = {key: (each.activations, each.gradients) for key, each in factors.items()}
        found.append((sides, masks))
    torch.testing.assert_close(*found)
