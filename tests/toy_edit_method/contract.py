"""The contract of a toy method, as a module of `app.contracts.edit_methods` would say it."""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Contract, Described
from app.contracts.edit_methods import DefaultLayers, MethodContract, register
from app.contracts.results.receipt_facts import EditedMatrix, ReceiptFacts


class ZeroOptions(Contract):
    """What stays of the weights."""

    factor: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ZeroParameters(Described):
    factor: float


class ZeroReceipt(ReceiptFacts):
    method: Literal["zero"]
    parameters: ZeroParameters
    matrices: list[EditedMatrix]


register(
    MethodContract(
        name="zero",
        description="scales the down projection of a late layer",
        receipt=ZeroReceipt,
        stages={"scaling": 5},
        default_layers=DefaultLayers(first=31, count=1),
        default_projections=("down",),
        own_options=ZeroOptions,
    )
)
