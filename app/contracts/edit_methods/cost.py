"""What an edit method's cost depends on."""

from dataclasses import dataclass
from typing import Final

from app.contracts.projections import Role

# A backward pass costs about twice a forward pass (arXiv 2001.08361, section 2.1).
TRAINING_PASSES: Final = 3
FLOAT32_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class EditTexts:
    """Tokens of the text sets that a method learns from.

    Attributes:
        calibration: of the calibration set.
        retain: of the retain set.
        calibration_row: of a text of the calibration set, on average.
        retain_row: of a text of the retain set, on average.
        clean: of clean text, on which a search measures perplexity.
        forget: of the forget set.
        recited: that go through the model when it is seen what of the forget set is recited.
    """

    calibration: float
    clean: float
    forget: float
    recited: float
    retain: float = 0.0
    calibration_row: float = 0.0
    retain_row: float = 0.0


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix [outputs, inputs] that an edit works on."""

    layer: int
    role: Role
    outputs: int
    inputs: int
