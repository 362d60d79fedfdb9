"""Text sets: immutable, ordered sets of texts with per-text facts. Their erasure is kept as a receipt."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Text, UniqueConstraint, func, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound, TextSetNotReady
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first, one_of


class TextSetStatus(StrEnum):
    """Whether the texts are there. What is uploaded is ready at once."""

    IMPORTING = "importing"  # a worker has yet to fetch the texts
    READY = "ready"  # all texts are there
    FAILED = "failed"  # they could not be fetched; `error` says why
    CANCELLED = "cancelled"  # it was erased before they were fetched


class TextSet(Base):
    """A set of texts: how many, and the digest of all of them in order. Empty until it is ready."""

    __tablename__ = "text_sets"
    __table_args__ = (
        Index("ix_text_sets_tenant_id_id", "tenant_id", "id"),
        Index("ix_text_sets_active", "tenant_id", postgresql_where=text("status = 'importing'")),
        Index(
            "ix_text_sets_tenant_id_preset_id",
            "tenant_id",
            "preset",
            "id",
            postgresql_where=text("preset IS NOT NULL"),
        ),
        one_of("status", TextSetStatus),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(
        Text, default=TextSetStatus.READY, server_default=TextSetStatus.READY.value
    )
    # Of an imported set: the preset, and the commit that the worker pinned.
    preset: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[str | None] = mapped_column(Text)
    error: Mapped[JSONObject | None]
    sha256: Mapped[str] = mapped_column(Text)
    text_count: Mapped[int]
    byte_count: Mapped[int] = mapped_column(BigInteger)
    group_counts: Mapped[JSONObject]
    duplicate_counts: Mapped[JSONObject]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]


class TextRow(Base):
    """One text of a set, at its place in the order, as it is stored.

    Whoever wants what the client sent asks for a `ClearText`, or for `clear_text` of a column.
    """

    __tablename__ = "texts"
    __table_args__ = (UniqueConstraint("text_set_id", "text_id"),)

    text_set_id: Mapped[UUID] = mapped_column(
        ForeignKey("text_sets.id", ondelete="CASCADE"), primary_key=True
    )
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    text_id: Mapped[str] = mapped_column(Text)
    stored_text: Mapped[str] = mapped_column("text", Text)
    prefix_chars: Mapped[int | None]
    duplicates: Mapped[int | None] = mapped_column(BigInteger)
    group: Mapped[str | None] = mapped_column(Text)
    member: Mapped[bool | None]
    stored_choices: Mapped[list[str] | None] = mapped_column("choices", JSONB(none_as_null=True))
    answer: Mapped[int | None]
    metadata_: Mapped[JSONObject | None] = mapped_column("metadata")


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


def clear_text(stored: str) -> str:
    """What the client sent, from what is stored of it: a text, or one of its choices.

    Every text that leaves the store has come through here.
    """
    return stored


def _clear_form(row: TextRow) -> ClearText:
    return ClearText(
        text=clear_text(row.stored_text),
        ordinal=row.ordinal,
        text_id=row.text_id,
        prefix_chars=row.prefix_chars,
        duplicates=row.duplicates,
        group=row.group,
        member=row.member,
        choices=None if row.stored_choices is None else [clear_text(choice) for choice in row.stored_choices],
        answer=row.answer,
        metadata=row.metadata_,
    )


# The columns that an upload writes, in the order of its COPY.
COPY_COLUMNS = (
    "text_set_id",
    "ordinal",
    "text_id",
    "text",
    "prefix_chars",
    "duplicates",
    "group",
    "member",
    "choices",
    "answer",
    "metadata",
)


def get_text_set(
    session: Session, tenant_id: UUID, text_set_id: UUID | None, *, share_lock: bool = False
) -> TextSet:
    """A tenant's text set. With `share_lock` it is neither erased nor made ready before the transaction ends.

    Raises:
        NotFound: no such text set for this tenant, or it was erased.
    """
    statement = select(TextSet).where(
        TextSet.id == text_set_id, TextSet.tenant_id == tenant_id, TextSet.deleted_at.is_(None)
    )
    if share_lock:
        statement = statement.with_for_update(read=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such text set.")
    return row


def text_sets_by_id(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, TextSet]:
    """Some of a tenant's text sets, erased ones too."""
    statement = select(TextSet).where(TextSet.id.in_(ids), TextSet.tenant_id == tenant_id)
    return {row.id: row for row in session.scalars(statement)}


def take_import(session: Session, tenant_id: UUID, preset: str) -> TextSet | None:
    """The newest text set that this tenant has of a preset, be it still importing, locked.

    Whoever asks for the same preset waits until the transaction ends, so that two who find none do not both
    import it.
    """
    lock = func.hashtextextended(f"preset:{tenant_id}:{preset}", 0)
    session.execute(select(func.pg_advisory_xact_lock(lock)))
    statement = (
        select(TextSet)
        .where(
            TextSet.tenant_id == tenant_id,
            TextSet.preset == preset,
            TextSet.deleted_at.is_(None),
            TextSet.status.in_((TextSetStatus.IMPORTING, TextSetStatus.READY)),
        )
        .order_by(TextSet.id.desc())
        .limit(1)
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
    return session.scalars(statement).one_or_none()


def require_texts(row: TextSet) -> None:
    """Refuse a text set whose import has failed.

    Raises:
        TextSetNotReady: it has no texts and will not get any.
    """
    if row.status == TextSetStatus.FAILED:
        raise TextSetNotReady("The text set could not be imported; its `error` says why.")


def require_all_texts(row: TextSet) -> None:
    """Refuse a text set that is not ready.

    Raises:
        TextSetNotReady: it has no texts, or not yet.
    """
    require_texts(row)
    if row.status == TextSetStatus.IMPORTING:
        raise TextSetNotReady("The text set is being imported; ask again when its `status` is ready.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSetFilter:
    """Which text sets to list; what is None or empty narrows nothing. For `metadata` see `has_metadata`."""

    name: str | None = None
    status: TextSetStatus | None = None
    preset: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def list_text_sets(
    session: Session, tenant_id: UUID, wanted: TextSetFilter, *, before: UUID | None, limit: int
) -> list[TextSet]:
    """A tenant's text sets that are wanted, newest first, those older than `before`."""
    statement = select(TextSet).where(
        TextSet.tenant_id == tenant_id,
        TextSet.deleted_at.is_(None),
        has_metadata(TextSet.metadata_, wanted.metadata),
    )
    for column, value in (
        (TextSet.name, wanted.name),
        (TextSet.status, wanted.status),
        (TextSet.preset, wanted.preset),
    ):
        if value is not None:
            statement = statement.where(column == value)
    return newest_first(session, statement, TextSet.id, before, limit)


def find_text(session: Session, text_set_id: UUID, text_id: str) -> ClearText | None:
    """The text of a set that has an id; None if there is none, or the set was erased."""
    statement = select(TextRow).where(TextRow.text_set_id == text_set_id, TextRow.text_id == text_id)
    row = session.scalars(statement).one_or_none()
    return None if row is None else _clear_form(row)


def read_texts(session: Session, text_set_id: UUID, start: int, stop: int) -> list[ClearText]:
    """The texts with start <= ordinal < stop, in order."""
    statement = (
        select(TextRow)
        .where(TextRow.text_set_id == text_set_id, TextRow.ordinal >= start, TextRow.ordinal < stop)
        .order_by(TextRow.ordinal)
    )
    return [_clear_form(row) for row in session.scalars(statement)]


def read_texts_at(session: Session, text_set_id: UUID, ordinals: Sequence[int]) -> dict[int, ClearText]:
    """The texts at some places of a set; none once it was erased."""
    statement = select(TextRow).where(TextRow.text_set_id == text_set_id, TextRow.ordinal.in_(ordinals))
    return {row.ordinal: _clear_form(row) for row in session.scalars(statement)}


def read_members(session: Session, text_set_id: UUID, ordinals: Sequence[int]) -> dict[int, bool | None]:
    """Whether the texts at some places of a set were trained on, as uploaded; none once it was erased."""
    statement = select(TextRow.ordinal, TextRow.member).where(
        TextRow.text_set_id == text_set_id, TextRow.ordinal.in_(ordinals)
    )
    return {row.ordinal: row.member for row in session.execute(statement)}


def end_of_page(session: Session, text_set_id: UUID, start: int, *, limit: int, max_bytes: int) -> int:
    """Where a page of texts that begins at ordinal `start` stops.

    After `limit` texts, or before the one with which it would exceed `max_bytes` of text and choices; but a
    page holds at least one text.

    Raises:
        NotFound: there is no text at `start`; the set may have been erased meanwhile.
    """
    choices_size = func.coalesce(func.pg_column_size(TextRow.stored_choices), 0)
    size = func.octet_length(TextRow.stored_text) + choices_size
    up_to_here = (
        select(TextRow.ordinal, func.sum(size).over(order_by=TextRow.ordinal).label("bytes"))
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
            select(TextRow.stored_text)
            .where(TextRow.text_set_id == text_set_id, TextRow.ordinal >= start, TextRow.ordinal < stop)
            .order_by(TextRow.ordinal)
        )
        yield [clear_text(stored) for stored in session.scalars(statement)]
        start = stop
