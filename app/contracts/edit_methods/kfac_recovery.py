"""Recovery of a K-FAC edit: what may be asked for, and about how much it takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.edit_methods.cost import FLOAT32_BYTES, TRAINING_PASSES, EditTexts, Matrix

if TYPE_CHECKING:
    from app.contracts.edits import EditSpec

RecoverySteps = Annotated[int, Field(ge=0, le=1000)]

# Of the retain set and of the calibration set each, in a step.
RECOVERY_ROWS: Final = 8
# Of all settings of an edit together.
MOST_RECOVERY_STEPS: Final = 20_000
# A trained matrix is held beside the projected one, as a parameter, and with its gradient. Where it moves in
# all directions, what is added has a gradient and Adam's two moments too.
_HELD_IN_FEW: Final = 4
_HELD_IN_ALL: Final = 8


class Recovery(Contract):
    """How the edited matrices learn again what texts like the retain set need.

    After directions are dropped, `steps` of Adam train them: on rows of the retain set, and to predict rows
    of the calibration set as the base does (arXiv 1503.02531). Each matrix moves in the `rank` directions in
    which its inputs on the retain set are largest, or freely if that is null. `learning_rate` is how far the
    first step moves a matrix, as a share of its root mean square; it falls to nought over the steps.
    """

    steps: RecoverySteps = 60
    rank: Annotated[int, Field(ge=1, le=100_000)] | None = 16
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.01


def recovery_steps_of(edit: "EditSpec") -> list[int]:
    """The numbers of steps that an edit asks for: those that are swept, or the one that it names."""
    if edit.sweep is not None and edit.sweep.recovery_steps is not None:
        return edit.sweep.recovery_steps
    return [0 if edit.recovery is None else edit.recovery.steps]


def recovery_steps(edit: "EditSpec", settings: int) -> float:
    """Steps of all settings together; without a search of the one that is written."""
    steps = recovery_steps_of(edit)
    return settings * sum(steps) / len(steps)


def recovery_tokens(edit: "EditSpec", texts: EditTexts, settings: int) -> float:
    """About how many tokens recovery sends through the model.

    A step trains on rows of both sets, a text each up to a block, and has the base predict the latter.
    """
    rows = TRAINING_PASSES * min(texts.retain_row, edit.block_tokens)
    rows += (TRAINING_PASSES + 1) * min(texts.calibration_row, edit.block_tokens)
    return recovery_steps(edit, settings) * RECOVERY_ROWS * rows


def recovery_bytes(edit: "EditSpec", matrices: Sequence[Matrix]) -> int:
    """What recovery holds of the matrices beside the weights, in float32."""
    if not any(recovery_steps_of(edit)):
        return 0
    free = edit.recovery is not None and edit.recovery.rank is None
    entries = sum(matrix.outputs * matrix.inputs for matrix in matrices)
    return (_HELD_IN_ALL if free else _HELD_IN_FEW) * FLOAT32_BYTES * entries
