"""Text sets: immutable, ordered sets of texts with per-text facts. Their erasure is kept as a receipt."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Text, bindparam, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound, TextSetNotReady
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first, one_of
from app.store.core.locks import lock_name


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
        Index("ix_text_sets_unkeyed", "id", postgresql_where=text("digest_is_keyed IS NULL")),
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
    # The HMAC-SHA-256 of their SHA-256 under the key of the tenant; in rows of an older release, and of its
    # processes, that SHA-256 itself until it is converted.
    hmac_sha256: Mapped[str] = mapped_column("sha256", Text)
    digest_is_keyed: Mapped[bool | None]
    text_count: Mapped[int]
    byte_count: Mapped[int] = mapped_column(BigInteger)
    group_counts: Mapped[JSONObject]
    duplicate_counts: Mapped[JSONObject]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]

    @property
    def keyed_digest(self) -> str | None:
        """What may be told of the digest: nothing until there are texts and it is keyed."""
        return self.hmac_sha256 or None if self.digest_is_keyed else None


# Asked with each request for work: written once.
_FINDING: Final = select(TextSet).where(
    TextSet.id == bindparam("id"), TextSet.tenant_id == bindparam("tenant_id"), TextSet.deleted_at.is_(None)
)
_FINDING_SHARED: Final = _FINDING.with_for_update(read=True)


def get_text_set(
    session: Session, tenant_id: UUID, text_set_id: UUID | None, *, share_lock: bool = False
) -> TextSet:
    """A tenant's text set. With `share_lock` it is neither erased nor made ready before the transaction ends.

    Raises:
        NotFound: no such text set for this tenant, or it was erased.
    """
    statement = _FINDING_SHARED if share_lock else _FINDING
    row = session.scalars(statement, {"id": text_set_id, "tenant_id": tenant_id}).one_or_none()
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
    lock_name(session, f"preset:{tenant_id}:{preset}")
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
