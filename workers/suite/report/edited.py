"""The perturbed model after an edit as arXiv 2510.24256 makes it, with no search and no choice of texts."""

from collections.abc import Sequence

from workers.science.curvature.kfac import collect_factors, eigenbases
from workers.science.curvature.search import Weights
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Role, find_projections, layer_count
from workers.science.models.token_blocks import pack_texts
from workers.science.models.weight_edit import without_low_curvature

KEEP_MASS = 0.6
_ROLES = (Role.GATE, Role.UP)


def edited_layers(language_model: LanguageModel) -> list[int]:
    """The later half of the layers: so small a model keeps its memories in more of them than a large one."""
    count = layer_count(language_model.model)
    return list(range(count // 2, count))


def edited_weights(language_model: LanguageModel, calibration: Sequence[str]) -> Weights:
    """Gate and up projections of the later layers with 60 % of their curvature, by K-FAC.

    Args:
        language_model: left as it is.
        calibration: text that it was trained on.

    Returns:
        New weights, for `replaced`.
    """
    blocks = pack_texts(language_model, calibration, block_tokens=language_model.context_length)
    projections = find_projections(language_model.model, layers=edited_layers(language_model), roles=_ROLES)
    bases = eigenbases(collect_factors(language_model, blocks, projections))
    return without_low_curvature(projections, bases, KEEP_MASS)
