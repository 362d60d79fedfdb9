"""Text sets as they are sent and answered."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, JsonValue, SkipValidation

from app.contracts.base import Contract, Metadata, Name
from app.contracts.texts import TextRecord
from app.store.core.identifiers import Prefix, format_id
from app.store.text_sets import ClearText, TextSet


class TextSetCreate(Contract):
    """A text set in one JSON document.

    Its texts are validated one by one, as those of a stream are, so that a body full of mistakes costs no
    more than a correct one.
    """

    name: Name
    texts: Annotated[list[SkipValidation[TextRecord]], Field(min_length=1)]
    metadata: Metadata = {}


class TextSetOut(BaseModel):
    """A stored text set.

    `sha256` is the digest of all texts and their facts in order, `byte_count` counts the texts in UTF-8.
    `group_counts` and `duplicate_counts` count the texts whose `group` or `duplicates` is known, for the
    first 1,000 distinct values.
    """

    object: Literal["text_set"] = "text_set"
    id: str
    name: str
    sha256: str
    text_count: int
    byte_count: int
    group_counts: dict[str, int]
    duplicate_counts: dict[str, int]
    metadata: dict[str, JsonValue]
    created_at: datetime

    @classmethod
    def of(cls, row: TextSet) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.TEXT_SET, row.id),
            name=row.name,
            sha256=row.sha256,
            text_count=row.text_count,
            byte_count=row.byte_count,
            group_counts=row.group_counts,
            duplicate_counts=row.duplicate_counts,
            metadata=row.metadata_,
            created_at=row.created_at,
        )


class TextOut(BaseModel):
    """One text of a set. With a known split its prefix is the first `prefix_chars` characters."""

    object: Literal["text"] = "text"
    id: str
    ordinal: int
    text: str
    prefix_chars: int | None
    duplicates: int | None
    group: str | None
    member: bool | None
    choices: list[str] | None
    answer: int | None
    metadata: dict[str, JsonValue] | None

    @classmethod
    def of(cls, row: ClearText) -> Self:
        """The resource for a row."""
        return cls(
            id=row.text_id,
            ordinal=row.ordinal,
            text=row.text,
            prefix_chars=row.prefix_chars,
            duplicates=row.duplicates,
            group=row.group,
            member=row.member,
            choices=row.choices,
            answer=row.answer,
            metadata=row.metadata,
        )


class TextSetReceipt(BaseModel):
    """Proof that the texts of a set were erased."""

    object: Literal["text_set_receipt"] = "text_set_receipt"
    id: str
    name: str
    sha256: str
    text_count: int
    byte_count: int
    deleted_at: datetime

    @classmethod
    def of(cls, row: TextSet) -> Self:
        """The receipt for an erased row."""
        assert row.deleted_at is not None
        return cls(
            id=format_id(Prefix.TEXT_SET, row.id),
            name=row.name,
            sha256=row.sha256,
            text_count=row.text_count,
            byte_count=row.byte_count,
            deleted_at=row.deleted_at,
        )
