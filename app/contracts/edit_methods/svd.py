"""SVD: the baseline that knows nothing of the data (arXiv 2510.24256)."""

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from app.contracts.base import Contract, Described
from app.contracts.edit_methods.registry import DefaultLayers, MethodContract, Refusal, register
from app.contracts.projections import Role
from app.contracts.results.receipt_facts import EditedMatrix, ReceiptFacts

if TYPE_CHECKING:
    from app.contracts.edits import EditSpec

RankRatio = Annotated[float, Field(gt=0, le=1)]


class RankRatios(Contract):
    """What SVD keeps of a projection's singular values, as a share of its full rank.

    The defaults are those of arXiv 2510.24256, which does not truncate attention.
    """

    gate: RankRatio = 0.5
    up: RankRatio = 0.005
    down: RankRatio = 0.005
    q: RankRatio | None = None
    k: RankRatio | None = None
    v: RankRatio | None = None
    qkv: RankRatio | None = None
    o: RankRatio | None = None


class SVDMatrix(EditedMatrix):
    """A matrix that keeps its largest singular values."""

    rank: int | None = None
    """How many of them; null in receipts of releases before it was kept."""


class SVDParameters(Described):
    """What an SVD edit did."""

    rank_ratio: dict[Role, float] | float
    """The share of the full rank that stays, by what a matrix is to its layer; once it was one for all."""


class SVDReceipt(ReceiptFacts):
    """How an SVD edit was made."""

    method: Literal["svd"]
    """The method."""
    parameters: SVDParameters
    """What it did."""
    matrices: list[SVDMatrix]
    """Every matrix that was edited."""


def _lacks_a_ratio(edit: "EditSpec") -> bool:
    return any(getattr(edit.rank_ratio, role) is None for role in edit.projections or ())


def _has_a_ratio_too_many(edit: "EditSpec") -> bool:
    return edit.projections is not None and bool(edit.rank_ratio.model_fields_set - set(edit.projections))


SVD: Final = register(
    MethodContract(
        name="svd",
        description="cuts matrices to their largest singular values, a share `rank_ratio` by role",
        receipt=SVDReceipt,
        stages={"decomposing": 5},
        default_layers=DefaultLayers(first=21, count=1),
        default_projections=None,  # all that have a ratio
        options=frozenset({"rank_ratio"}),
        refusals=(
            Refusal("rank_ratio_missing", "Every projection needs a rank ratio", _lacks_a_ratio),
            Refusal(
                "rank_ratio_unused",
                "A rank ratio for a projection that is not edited",
                _has_a_ratio_too_many,
            ),
        ),
    )
)
