"""How an edited model was made, as it is answered: one shape a method."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from app.contracts.edit_methods import METHODS
from app.contracts.results.receipt_facts import ReceiptFacts

if TYPE_CHECKING:
    Receipt = ReceiptFacts
else:
    Receipt = Annotated[
        Union[tuple(method.receipt for method in METHODS.values())],  # noqa: UP007 - known at run time only
        Field(discriminator="method"),
    ]
