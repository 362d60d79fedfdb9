"""The BalancedSubnet edit: a few weights zeroed, learnt from texts to forget and texts to retain."""

from dataclasses import asdict
from typing import Final

from app.contracts.texts import TextSetRole
from workers.edits.inputs import EditInputs
from workers.edits.methods.registry import (
    EditedWeights,
    EditMethod,
    chosen_projections,
    describe_matrix,
    register,
)
from workers.edits.progress import EditProgress
from workers.edits.tokens import curvature_blocks, token_rows
from workers.running.runtime import Runtime
from workers.science.baselines.balanced_subnet import BalancedSubnetOptions, learn_subnet
from workers.science.models.loading import LanguageModel


def _run(
    runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
) -> EditedWeights:
    projections = chosen_projections(inputs.spec, language_model.model)
    progress.enter("learning_mask")
    retain = curvature_blocks(runtime, inputs, language_model, TextSetRole.CALIBRATION)
    length = retain.ids.shape[1]
    forget = token_rows(runtime, inputs, language_model, TextSetRole.FORGET, max_tokens=length)
    options = BalancedSubnetOptions(**inputs.spec.balanced_subnet.model_dump())
    kept = learn_subnet(
        language_model,
        projections,
        forget,
        retain,
        options,
        seed=inputs.spec.seed,
        on_progress=progress.counter(options.epochs * (len(forget) + len(retain))),
    )
    return EditedWeights(
        weights=[(projection, projection.weight * kept[projection.key]) for projection in projections],
        matrices=[
            describe_matrix(projection) | {"weights_dropped": int((~kept[projection.key]).sum())}
            for projection in projections
        ],
        parameters=asdict(options),
    )


BALANCED_SUBNET: Final = register(EditMethod("balanced_subnet", _run))
