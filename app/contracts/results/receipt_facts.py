"""What the receipts of all edit methods say.

What a later release adds has a default, so that receipts which an earlier one stored stay readable.
"""

from typing import Annotated, Literal

from pydantic import Field

from app.contracts.base import Described
from app.contracts.projections import Role
from app.contracts.texts import TextSetRole


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
    hmac_sha256: str | None = None
    """Its keyed digest when the edit was requested; null in an older release's receipt until converted."""


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


class EditWarning(Described):
    """What is doubtful about an edit although it could be made."""

    code: str
    """Of the kind of doubt; kinds may be added."""
    detail: str
    """What it is, in a sentence, and what helps."""


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
    warnings: list[EditWarning] = []
    """What is doubtful about it; none in receipts of releases before there were warnings."""
    wall_seconds: float
    """From the start of the job to the end of the evaluation."""
    peak_memory_bytes: int
    """The most that the worker had held by then: of the GPU if there is one, else of its process."""
