"""How an edited model was made, as it is answered: one shape a method.

What a later release adds has a default, so that receipts which an earlier one stored stay readable.
"""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Described
from app.contracts.edits import Role, TextSetRole


class ReceiptBase(Described):
    """The language model that was edited."""

    model: str
    """Its id."""
    digest: str
    """SHA-256 over the names and digests of its files."""
    revision: str | None
    """The commit of its files; null for a directory, which has none."""


class Ancestor(Described):
    """A language model that the edited one comes from."""

    model: str
    """Its id."""
    source: Literal["hub", "path", "artifact"]
    """Where its files came from; an artifact is an edited model of this service."""
    name: str
    """The hub's repository, `tenant/name` of an edited model, or the last part of a path."""
    revision: str | None
    """The commit of its files; null for a directory, which has none."""
    digest: str | None
    """SHA-256 over the names and digests of its files; null for one that was never validated."""


class UsedTextSet(Described):
    """A text set that the edit used."""

    id: str
    """Its id; the set may have been erased since."""
    sha256: str
    """Its digest when the edit was requested."""


class CodeVersions(Described):
    """The releases that made the edit."""

    memaudit: str
    """Of this service."""
    torch: str
    """Of PyTorch."""
    transformers: str
    """Of transformers."""


class EditedMatrix(Described):
    """A matrix whose weights are new."""

    projection: str
    """Its name in the model."""
    layer: int
    """The layer it belongs to, from 0."""
    role: Role
    """What it is to the layer."""
    shape: Annotated[list[int], Field(min_length=2, max_length=2)]
    """Outputs and inputs."""


class KFACMatrix(EditedMatrix):
    """A matrix that keeps the directions of most curvature."""

    kept_mass: float
    """The share of the curvature mass that stays, at least what was asked for."""
    kept_pairs: int
    """Pairs of an output and an input direction that stay."""
    pairs: int
    """All of them: outputs times inputs."""
    largest_rank: int
    """The most that the new matrix's rank can be."""


class SVDMatrix(EditedMatrix):
    """A matrix that keeps its largest singular values."""

    rank: int | None = None
    """How many of them; null in receipts of releases before it was kept."""


class BalancedSubnetMatrix(EditedMatrix):
    """A matrix of which some weights are zero now."""

    weights_dropped: int
    """How many of them; possibly none of this matrix."""


class KFACParameters(Described):
    """What a K-FAC edit did."""

    keep_mass: float
    """The share of the curvature mass that was asked for, or that a search chose."""
    calibration_tokens: int
    """Tokens that the curvature averages over."""
    factors_reused: int
    """Projections whose curvature an earlier edit had left."""
    factors_collected: int
    """Projections whose curvature was collected for this edit."""


class SVDParameters(Described):
    """What an SVD edit did."""

    rank_ratio: dict[Role, float] | float
    """The share of the full rank that stays, by what a matrix is to its layer; once it was one for all."""


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


class ReceiptFacts(Described):
    """What the receipts of all methods say."""

    base: ReceiptBase
    """The language model that was edited."""
    lineage: list[Ancestor] = []
    """The base, what that was derived from, and so on; empty in receipts of releases before it was kept."""
    text_sets: dict[TextSetRole, UsedTextSet]
    """The text sets by what they were to the edit."""
    seed: int
    """Of everything that is drawn."""
    dtype: str
    """Of the weights in memory; the files keep the format of the base."""
    device: str
    """`cpu` or `cuda`."""
    code: CodeVersions
    """The releases that made the edit."""
    wall_seconds: float
    """From the start of the job to the end of the evaluation."""
    peak_memory_bytes: int
    """The most that the worker had held by then: of the GPU if there is one, else of its process."""


class KFACReceipt(ReceiptFacts):
    """How a K-FAC edit was made."""

    method: Literal["kfac"]
    """The method."""
    parameters: KFACParameters
    """What it did."""
    matrices: list[KFACMatrix]
    """Every matrix that was edited."""


class SVDReceipt(ReceiptFacts):
    """How an SVD edit was made."""

    method: Literal["svd"]
    """The method."""
    parameters: SVDParameters
    """What it did."""
    matrices: list[SVDMatrix]
    """Every matrix that was edited."""


class BalancedSubnetReceipt(ReceiptFacts):
    """How a BalancedSubnet edit was made."""

    method: Literal["balanced_subnet"]
    """The method."""
    parameters: BalancedSubnetParameters
    """What it did."""
    matrices: list[BalancedSubnetMatrix]
    """Every matrix that was edited."""


Receipt = Annotated[KFACReceipt | SVDReceipt | BalancedSubnetReceipt, Field(discriminator="method")]
