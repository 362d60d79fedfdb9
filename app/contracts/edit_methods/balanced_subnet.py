"""BalancedSubnet: weights to zero are learnt, so that chosen texts are forgotten (arXiv 2410.02159)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from app.contracts.base import Contract, Described
from app.contracts.edit_methods.cost import FLOAT32_BYTES, TRAINING_PASSES, EditTexts, Matrix
from app.contracts.edit_methods.registry import DefaultLayers, MethodContract, register
from app.contracts.results.receipt_facts import EditedMatrix, ReceiptFacts
from app.contracts.texts import TextSetRole

if TYPE_CHECKING:
    from app.contracts.edits import EditSpec

# Scores of the weights, their gradients and their momentum.
_NUMBERS_PER_WEIGHT: Final = 3


class BalancedSubnetOptions(Contract):
    """How BalancedSubnet learns its mask; the defaults are those of arXiv 2510.24256."""

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.0015
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.3
    loss_weight: Annotated[float, Field(ge=0, le=1)] = 0.7


class BalancedSubnetMatrix(EditedMatrix):
    """A matrix of which some weights are zero now."""

    weights_dropped: int
    """How many of them; possibly none of this matrix."""


class BalancedSubnetParameters(Described):
    """What a BalancedSubnet edit did."""

    loss_weight: float
    """w in -(1 - w) * L_forget + w * L_retain."""
    epochs: int
    """Passes over both text sets."""
    ratio: float
    """The share of the weights that was dropped."""
    learning_rate: float
    """Of stochastic gradient descent on the scores."""
    momentum: float
    """Of the same."""
    weight_decay: float
    """Of the same."""
    batch_blocks: int
    """Rows of tokens in a batch."""


class BalancedSubnetReceipt(ReceiptFacts):
    """How a BalancedSubnet edit was made."""

    method: Literal["balanced_subnet"]
    """The method."""
    parameters: BalancedSubnetParameters
    """What it did."""
    matrices: list[BalancedSubnetMatrix]
    """Every matrix that was edited."""


def _forward_tokens(edit: "EditSpec", texts: EditTexts) -> float:
    """Passes forwards and backwards over both sets."""
    retained = min(texts.calibration, float(edit.calibration_tokens))
    return TRAINING_PASSES * edit.balanced_subnet.epochs * (retained + texts.forget)


def _working_bytes(edit: "EditSpec", matrices: Sequence[Matrix]) -> int:  # noqa: ARG001 - whatever it is
    weights = sum(matrix.outputs * matrix.inputs for matrix in matrices)
    return _NUMBERS_PER_WEIGHT * FLOAT32_BYTES * weights


BALANCED_SUBNET: Final = register(
    MethodContract(
        name="balanced_subnet",
        description="learns which weights to zero (arXiv 2410.02159)",
        receipt=BalancedSubnetReceipt,
        stages={"learning_mask": 5},
        default_layers=DefaultLayers(first=23, count=3),
        default_projections=("gate", "up"),
        needs=frozenset({TextSetRole.CALIBRATION, TextSetRole.FORGET}),
        options=frozenset({"balanced_subnet", "calibration_tokens", "block_tokens"}),
        forward_tokens=_forward_tokens,
        working_bytes=_working_bytes,
    )
)
