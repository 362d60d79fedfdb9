"""How fast a GPU collects curvature, and how long an edit by it takes then."""

from collections.abc import Callable
from typing import Final, TypeVar

import torch

from tests.benchmarks.curvature import EDITED_LAYERS, KEEP_MASS
from tests.benchmarks.figures import Figure
from tests.benchmarks.gpu_settings import PAPER_MINUTES, GpuSetting
from tests.benchmarks.random_models import random_blocks
from tests.benchmarks.rates import timed
from workers.science.curvature.kfac import Eigenbasis, Factors, collect_factors, eigenbases
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, Role, default_layers, find_projections, layer_count
from workers.science.models.weight_edit import keep_top_mass

_Result = TypeVar("_Result")
# Every projection of a gated MLP.
MLP: Final = (Role.GATE, Role.UP, Role.DOWN)


def measure_curvature(language_model: LanguageModel, setting: GpuSetting) -> list[Figure]:
    """The figures of collecting factors of four late layers' MLPs, of decomposing them, and of the edit."""
    device = language_model.device
    layers = default_layers(layer_count(language_model.model), count=EDITED_LAYERS)
    projections = find_projections(language_model.model, layers=layers, roles=MLP)
    blocks = random_blocks(setting.tokens, setting.block, language_model.vocabulary_size)
    collect_factors(language_model, blocks.part(slice(0, 2)), projections)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, factors = _timed(lambda: collect_factors(language_model, blocks, projections), device)
    speed = blocks.tokens / seconds
    return [
        Figure(
            f"collecting curvature of {len(projections)} matrices",
            speed,
            "tokens/s",
            f"{blocks.tokens:,} tokens, sampled labels, MLPs of layers {layers[0]} to {layers[-1]}",
        ),
        Figure(
            f"{setting.calibration / 1e6:.0f}M tokens at that speed",
            setting.calibration / speed / 60,
            "min",
            f"the paper: {PAPER_MINUTES} min, gate and up",
            at_most=setting.minutes_at_most,
        ),
        _peak_memory(device),
        *_edit(projections, factors, device),
    ]


def _edit(projections: list[Projection], factors: dict[str, Factors], device: torch.device) -> list[Figure]:
    matrices = {id(side) for each in factors.values() for side in (each.activations, each.gradients)}
    decomposing, bases = _timed(lambda: eigenbases(factors), device)
    projecting, _ = _timed(lambda: [_projected(each, bases[each.key]) for each in projections], device)
    return [
        Figure("their eigenvectors", decomposing, "s", f"of {len(matrices)} factors"),
        Figure("the edit (projection) of all of them", projecting, "s", f"{KEEP_MASS:.0%} of the mass kept"),
    ]


def _projected(projection: Projection, basis: Eigenbasis) -> None:
    keep_top_mass(projection.weight, basis, KEEP_MASS)


def _peak_memory(device: torch.device) -> Figure:
    name = "memory while collecting, at its peak"
    if device.type != "cuda":
        return Figure(name, None, beside="of a GPU only")
    return Figure(name, torch.cuda.max_memory_allocated(device) / 2**30, "GiB", "weights and all")


def _timed(function: Callable[[], _Result], device: torch.device) -> tuple[float, _Result]:
    """Seconds that a call takes, and what it returns."""
    found: list[_Result] = []
    seconds = timed(lambda: found.append(function()), device)
    return seconds, found[0]
