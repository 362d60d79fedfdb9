"""What a worker does for the toy method, as a module of `workers.edits.methods` would say it."""

from tests.toy_edit_method.contract import ZeroOptions
from workers.edits.inputs import EditInputs
from workers.edits.methods.registry import (
    EditedWeights,
    EditMethod,
    chosen_projections,
    describe_matrix,
    register,
)
from workers.edits.progress import EditProgress
from workers.running.runtime import Runtime
from workers.science.models.loading import LanguageModel


def _run(
    runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
) -> EditedWeights:
    options = inputs.spec.own_options(ZeroOptions)
    progress.enter("scaling")
    projections = chosen_projections(inputs.spec, language_model.model)
    return EditedWeights(
        weights=[(projection, projection.weight * options.factor) for projection in projections],
        matrices=[describe_matrix(projection) for projection in projections],
        parameters={"factor": options.factor},
    )


register(EditMethod("zero", _run))
