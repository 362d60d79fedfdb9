"""The SVD edit: each matrix cut to its largest singular values."""

from collections.abc import Sequence
from typing import Final

from app.contracts.edits import EditSpec
from workers.edits.inputs import EditInputs
from workers.edits.methods.registry import (
    EditedWeights,
    EditMethod,
    chosen_layers,
    describe_matrix,
    register,
)
from workers.edits.progress import EditProgress
from workers.running.runtime import Runtime
from workers.science.baselines.svd import truncate
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, Role, find_projections


def _run(
    runtime: Runtime,  # noqa: ARG001 - all methods are given the same
    inputs: EditInputs,
    language_model: LanguageModel,
    progress: EditProgress,
) -> EditedWeights:
    ratios = inputs.spec.rank_ratio.model_dump(exclude_none=True)
    projections = _projections(inputs.spec, language_model, list(ratios))
    progress.enter("decomposing")
    weights, matrices = [], []
    for projection in projections:
        weight, rank = truncate(projection.weight, ratios[projection.role])
        weights.append((projection, weight))
        matrices.append(describe_matrix(projection) | {"rank": rank})
        progress.report(len(weights), len(projections))
    cut = {str(projection.role): ratios[projection.role] for projection in projections}
    return EditedWeights(weights=weights, matrices=matrices, parameters={"rank_ratio": cut})


def _projections(spec: EditSpec, language_model: LanguageModel, with_ratio: list[str]) -> list[Projection]:
    """Those that were named, or all that have a ratio; but not every MLP has a gate."""
    model = language_model.model
    layers = chosen_layers(spec, model)
    roles: Sequence[str] | None = spec.projections
    if roles is None:
        ungated = Role.GATE not in {projection.role for projection in find_projections(model, layers=layers)}
        roles = [role for role in with_ratio if not (ungated and role == Role.GATE)]
    return find_projections(model, layers=layers, roles=roles)


SVD: Final = register(EditMethod("svd", _run))
