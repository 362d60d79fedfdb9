"""Text sets as they are sent and answered."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, JsonValue, SkipValidation

from app.contracts.base import Contract, Metadata, Name
from app.contracts.catalogue import PresetName
from app.contracts.texts import TextRecord
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.store.core.identifiers import Prefix, format_id
from app.store.erasure_receipts import ErasureReceipt
from app.store.jobs.job import Job
from app.store.text_sets import TextSet, TextSetStatus
from app.store.texts import ClearText


class TextSetCreate(Contract):
    """A text set in one JSON document.

    Its texts are validated one by one, as those of a stream are, so that a body full of mistakes costs no
    more than a correct one.
    """

    name: Name
    texts: Annotated[list[SkipValidation[TextRecord]], Field(min_length=1)]
    metadata: Metadata = {}


class TextSetImport(Contract):
    """A text set whose texts a worker fetches: those of a preset, named after it unless named here."""

    preset: PresetName
    name: Name | None = None
    metadata: Metadata = {}


class TextSetOut(BaseModel):
    """A stored text set.

    `hmac_sha256` is a digest of all texts and their facts in order under a key of the tenant: the same texts
    have the same one, and nobody without the key can try guesses against it. `byte_count` counts the texts in
    UTF-8. `group_counts` and `duplicate_counts` count the texts whose `group` or `duplicates` is known, for
    the first 1,000 distinct values.

    One of a `preset` is `importing` until a worker has fetched its texts. Then it is `ready`, and `revision`
    is the commit that they came from, or `failed`, and `error` says why. Until it is ready it has no texts
    and `hmac_sha256` is null; `waiting` says what it waits for, if the hub is away. The digest of a set that
    an older release stored is null until it has been keyed.
    """

    object: Literal["text_set"] = "text_set"
    id: str
    name: str
    status: str = TextSetStatus.READY
    preset: str | None = None
    revision: str | None = None
    hmac_sha256: str | None = None
    text_count: int
    byte_count: int
    group_counts: dict[str, int]
    duplicate_counts: dict[str, int]
    waiting: Waiting | None = None
    error: Problem | None = None
    metadata: dict[str, JsonValue]
    created_at: datetime

    @classmethod
    def of(cls, row: TextSet, waiting_job: Job | None = None) -> Self:
        """The resource for a row; `waiting_job` goes on once something is back."""
        return cls(
            id=format_id(Prefix.TEXT_SET, row.id),
            name=row.name,
            status=row.status,
            preset=row.preset,
            revision=row.revision,
            hmac_sha256=row.keyed_digest,
            text_count=row.text_count,
            byte_count=row.byte_count,
            group_counts=row.group_counts,
            duplicate_counts=row.duplicate_counts,
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
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


class Envelope(BaseModel):
    """A signed statement: DSSE v1. Its file is this object as compact JSON, in this order."""

    payload: str
    payloadType: str  # noqa: N815 - DSSE's own word
    signatures: list[dict[str, str]]


class TextSetReceipt(BaseModel):
    """Proof that the texts of a set were erased, with the token evidence and the key that opened both.

    `hmac_sha256` is null if it was erased before it had any texts. `envelope` is the same signed, as
    `GET …/receipt` gives it; null where this instance has no key to sign with.
    """

    object: Literal["text_set_receipt"] = "text_set_receipt"
    id: str
    name: str
    hmac_sha256: str | None
    text_count: int
    byte_count: int
    deleted_at: datetime
    envelope: Envelope | None = None

    @classmethod
    def of(cls, row: TextSet, receipt: ErasureReceipt) -> Self:
        """The receipt for an erased row."""
        assert row.deleted_at is not None
        envelope = None if receipt.envelope is None else Envelope.model_validate_json(receipt.envelope)
        return cls(
            id=format_id(Prefix.TEXT_SET, row.id),
            name=row.name,
            hmac_sha256=row.keyed_digest,
            text_count=row.text_count,
            byte_count=row.byte_count,
            deleted_at=row.deleted_at,
            envelope=envelope,
        )
