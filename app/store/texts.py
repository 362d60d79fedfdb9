"""The texts of text sets: sealed where they are stored, and opened where they are read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound
from app.sealing.boxes import OVERHEAD_BYTES
from app.sealing.texts import TextSetSealer
from app.store.core.base import Base, JSONObject
from app.store.data_keys import text_set_sealer


class TextRow(Base):
    """One text of a set, at its place in the order, as it is stored.

    The text, its choices and its metadata are boxes that the key of the set opens in this row only; what is
    told of the text beside them is not sealed. In a row of an older release, until it is converted, the three
    stand in clear. Whoever wants what the client sent asks for a `ClearText`.
    """

    __tablename__ = "texts"
    __table_args__ = (
        UniqueConstraint("text_set_id", "text_id"),
        Index(
            "ix_texts_unsealed",
            "text_set_id",
            "ordinal",
            postgresql_where=literal_column("sealed_text IS NULL"),
        ),
    )

    text_set_id: Mapped[UUID] = mapped_column(
        ForeignKey("text_sets.id", ondelete="CASCADE"), primary_key=True
    )
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    text_id: Mapped[str] = mapped_column(Text)
    unsealed_text: Mapped[str | None] = mapped_column("text", Text)
    prefix_chars: Mapped[int | None]
    duplicates: Mapped[int | None] = mapped_column(BigInteger)
    group: Mapped[str | None] = mapped_column(Text)
    member: Mapped[bool | None]
    unsealed_choices: Mapped[list[str] | None] = mapped_column("choices", JSONB(none_as_null=True))
    answer: Mapped[int | None]
    unsealed_metadata: Mapped[JSONObject | None] = mapped_column("metadata")
    sealed_text: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_choices: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_metadata: Mapped[bytes | None] = mapped_column(LargeBinary)


class _Stored(Protocol):
    """What is read of a row for its text alone."""

    @property
    def ordinal(self) -> int: ...
    @property
    def sealed_text(self) -> bytes | None: ...
    @property
    def unsealed_text(self) -> str | None: ...


# All of a row but its set, read as plain rows: to make objects of the session took a fifth of what the thread
# that runs a job computed, with a tiny language model.
_COLUMNS: Final = (
    TextRow.ordinal,
    TextRow.text_id,
    TextRow.unsealed_text,
    TextRow.prefix_chars,
    TextRow.duplicates,
    TextRow.group,
    TextRow.member,
    TextRow.unsealed_choices,
    TextRow.answer,
    TextRow.unsealed_metadata,
    TextRow.sealed_text,
    TextRow.sealed_choices,
    TextRow.sealed_metadata,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearText:
    """One text of a set as the client sent it. With a known split its prefix is the first `prefix_chars`."""

    text: str
    ordinal: int = 0
    text_id: str = ""
    prefix_chars: int | None = None
    duplicates: int | None = None
    group: str | None = None
    member: bool | None = None
    choices: list[str] | None = None
    answer: int | None = None
    metadata: JSONObject | None = None


# What an upload writes: each column of its COPY, in order, with its type.
COPY_COLUMNS: Final = {
    "text_set_id": "uuid",
    "ordinal": "int4",
    "text_id": "text",
    "prefix_chars": "int4",
    "duplicates": "int8",
    "group": "text",
    "member": "bool",
    "answer": "int4",
    "sealed_text": "bytea",
    "sealed_choices": "bytea",
    "sealed_metadata": "bytea",
}
CopyRow = tuple[Any, ...]  # the values of COPY_COLUMNS


def copy_row(sealer: TextSetSealer, text_set_id: UUID, text: ClearText) -> CopyRow:
    """A text as it is stored."""
    return (
        text_set_id,
        text.ordinal,
        text.text_id,
        text.prefix_chars,
        text.duplicates,
        text.group,
        text.member,
        text.answer,
        *sealed_columns(sealer, text).values(),
    )


def sealed_columns(sealer: TextSetSealer, text: ClearText) -> dict[str, bytes | None]:
    """What is sealed of a text, by column."""
    return {
        "sealed_text": sealer.seal(text.text.encode(), text.ordinal, "text"),
        "sealed_choices": _sealed_json(sealer, text.choices, text.ordinal, "choices"),
        "sealed_metadata": _sealed_json(sealer, text.metadata, text.ordinal, "metadata"),
    }


def _sealed_json(sealer: TextSetSealer, value: object, ordinal: int, column: str) -> bytes | None:
    return None if value is None else sealer.seal(orjson.dumps(value), ordinal, column)


def _opened(session: Session, text_set_id: UUID, rows: Sequence[Any]) -> list[ClearText]:
    """The texts of rows of `_COLUMNS`; none once the set was erased."""
    try:
        sealer = _sealer_for(session, text_set_id, [row.sealed_text for row in rows])
    except NotFound:
        return []
    return [clear_text(row, sealer) for row in rows]


def _sealer_for(session: Session, text_set_id: UUID, boxes: Iterable[bytes | None]) -> TextSetSealer | None:
    """What opens rows of a set that were read; None if none of them is sealed.

    Raises:
        NotFound: the set was erased since.
    """
    if all(box is None for box in boxes):
        return None
    sealer = text_set_sealer(session, text_set_id)
    if sealer is None:
        raise NotFound("There is no such text set.")
    return sealer


def clear_text(row: TextRow, sealer: TextSetSealer | None) -> ClearText:
    """What a row holds.

    Raises:
        SealBroken: what is sealed was changed, or is of another row.
    """
    choices, metadata = row.unsealed_choices, row.unsealed_metadata
    if sealer is not None and row.sealed_text is not None:
        choices = _opened_json(sealer, row.sealed_choices, row.ordinal, "choices")
        metadata = _opened_json(sealer, row.sealed_metadata, row.ordinal, "metadata")
    return ClearText(
        text=bare_text(row, sealer),
        ordinal=row.ordinal,
        text_id=row.text_id,
        prefix_chars=row.prefix_chars,
        duplicates=row.duplicates,
        group=row.group,
        member=row.member,
        choices=choices,
        answer=row.answer,
        metadata=metadata,
    )


def bare_text(row: _Stored, sealer: TextSetSealer | None) -> str:
    """The text of a row. Every text that leaves the store has come through here.

    Raises:
        SealBroken: it was changed, or is of another row.
    """
    if row.sealed_text is None:
        return row.unsealed_text or ""
    assert sealer is not None
    return sealer.open(row.sealed_text, row.ordinal, "text").decode()


def _opened_json(sealer: TextSetSealer, box: bytes | None, ordinal: int, column: str) -> Any:
    return None if box is None else orjson.loads(sealer.open(box, ordinal, column))


def find_text(session: Session, text_set_id: UUID, text_id: str) -> ClearText | None:
    """The text of a set that has an id; None if there is none, or the set was erased."""
    statement = select(*_COLUMNS).where(TextRow.text_set_id == text_set_id, TextRow.text_id == text_id)
    found = _opened(session, text_set_id, session.execute(statement).all())
    return found[0] if found else None


def read_texts(session: Session, text_set_id: UUID, start: int, stop: int) -> list[ClearText]:
    """The texts with start <= ordinal < stop, in order; none once the set was erased."""
    statement = (
        select(*_COLUMNS)
        .where(TextRow.text_set_id == text_set_id, TextRow.ordinal >= start, TextRow.ordinal < stop)
        .order_by(TextRow.ordinal)
    )
    return _opened(session, text_set_id, session.execute(statement).all())


def read_texts_at(session: Session, text_set_id: UUID, ordinals: Sequence[int]) -> dict[int, ClearText]:
    """The texts at some places of a set; none once it was erased."""
    statement = select(*_COLUMNS).where(TextRow.text_set_id == text_set_id, TextRow.ordinal.in_(ordinals))
    rows = session.execute(statement).all()
    return {text.ordinal: text for text in _opened(session, text_set_id, rows)}


def read_members(session: Session, text_set_id: UUID, ordinals: Sequence[int]) -> dict[int, bool | None]:
    """Whether the texts at some places of a set were trained on, as uploaded; none once it was erased."""
    statement = select(TextRow.ordinal, TextRow.member).where(
        TextRow.text_set_id == text_set_id, TextRow.ordinal.in_(ordinals)
    )
    return {row.ordinal: row.member for row in session.execute(statement)}


def _stored_bytes() -> ColumnElement[int]:
    """The bytes of a text, its choices and its metadata. For that nothing is read that is stored apart."""
    text = func.coalesce(
        func.octet_length(TextRow.sealed_text) - OVERHEAD_BYTES, func.octet_length(TextRow.unsealed_text)
    )
    choices = func.coalesce(
        func.octet_length(TextRow.sealed_choices) - OVERHEAD_BYTES,
        func.pg_column_size(TextRow.unsealed_choices),
        0,
    )
    metadata = func.coalesce(
        func.octet_length(TextRow.sealed_metadata) - OVERHEAD_BYTES,
        func.pg_column_size(TextRow.unsealed_metadata),
        0,
    )
    return cast(text + choices + metadata, BigInteger)


def end_of_page(session: Session, text_set_id: UUID, start: int, *, limit: int, max_bytes: int) -> int:
    """Where a page of texts that begins at ordinal `start` stops.

    After `limit` texts, or before the one with which it would exceed `max_bytes` of all that is sealed; but a
    page holds at least one text.

    Raises:
        NotFound: there is no text at `start`; the set may have been erased meanwhile.
    """
    up_to_here = (
        select(TextRow.ordinal, func.sum(_stored_bytes()).over(order_by=TextRow.ordinal).label("bytes"))
        .where(TextRow.text_set_id == text_set_id, TextRow.ordinal >= start, TextRow.ordinal < start + limit)
        .subquery()
    )
    fits = or_(up_to_here.c.bytes <= max_bytes, up_to_here.c.ordinal == start)
    last = session.scalars(select(func.max(up_to_here.c.ordinal)).where(fits)).one()
    if last is None:
        raise NotFound("There is no such text set.")
    return int(last) + 1


def read_page(
    session: Session, text_set_id: UUID, start: int, *, limit: int, max_bytes: int
) -> list[ClearText]:
    """The texts of a page that begins at ordinal `start`, as `end_of_page` bounds it; none at the end."""
    try:
        stop = end_of_page(session, text_set_id, start, limit=limit, max_bytes=max_bytes)
    except NotFound:
        return []
    return read_texts(session, text_set_id, start, stop)


def iterate_text_batches(
    session: Session, text_set_id: UUID, batch_size: int = 2000, max_bytes: int = 8 * 2**20
) -> Iterator[list[str]]:
    """The bare texts of a set in order, a batch at a time: of `max_bytes`, or one text that is longer."""
    start = 0
    while True:
        try:
            stop = end_of_page(session, text_set_id, start, limit=batch_size, max_bytes=max_bytes)
        except NotFound:
            return
        statement = (
            select(TextRow.ordinal, TextRow.sealed_text, TextRow.unsealed_text)
            .where(TextRow.text_set_id == text_set_id, TextRow.ordinal >= start, TextRow.ordinal < stop)
            .order_by(TextRow.ordinal)
        )
        rows = session.execute(statement).all()
        sealer = _sealer_for(session, text_set_id, [row.sealed_text for row in rows])
        yield [bare_text(row, sealer) for row in rows]
        start = stop
