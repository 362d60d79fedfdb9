"""Blobs: bytes named by their SHA-256, in chunks that have a digest each.

A blob is reserved, then its bytes are written, then `written_at` is set: a blob without it does not count.
No transaction is open while bytes are on their way, so two writers may write one blob at a time: they write
the same bytes, and the first to finish makes it count. Whoever writes for long says so by `refresh_blob`,
which keeps the blob from collection. Its chunks hold the bytes themselves, or only their digests when the
bytes are in an object store.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    case,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from app.errors import BlobMissing
from app.store.core.base import Base, CreatedAt

CHUNK_BYTES: Final = 8 * 2**20
# The location of blobs whose bytes this database keeps.
POSTGRES: Final = "postgres:"

# Every column that names a blob: a module that has one adds it. What is named here is never collected.
REFERENCES: Final[list[InstrumentedAttribute[str]]] = []


class Blob(Base):
    """Bytes by their SHA-256, and where they are kept."""

    __tablename__ = "blobs"
    __table_args__ = (Index("ix_blobs_last_put_at", "last_put_at"),)

    sha256: Mapped[str] = mapped_column(Text, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    chunk_bytes: Mapped[int] = mapped_column(default=CHUNK_BYTES)
    location: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    last_put_at: Mapped[CreatedAt]
    written_at: Mapped[datetime | None]


class BlobChunk(Base):
    """A piece of a blob; all but the last have the blob's `chunk_bytes`."""

    __tablename__ = "blob_chunks"

    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    chunk_sha256: Mapped[str] = mapped_column(Text)
    # Null when the bytes are in an object store.
    data: Mapped[bytes | None] = mapped_column(LargeBinary)


@dataclass(frozen=True)
class ChunkDigest:
    """What a chunk must be."""

    size: int
    sha256: str


def wait_briefly_for_locks(session: Session) -> None:
    """Let a statement fail when another transaction holds a blob's row for long."""
    session.execute(text("SET LOCAL lock_timeout = '30s'"))


def reserve_blob(session: Session, sha256: str, size: int, location: str) -> datetime | None:
    """Say that a blob is wanted now, which keeps it from collection for a while.

    Returns:
        When its bytes were written; None when they are still to be written, to `location`.
    """
    statement = insert(Blob).values(sha256=sha256, size=size, chunk_bytes=CHUNK_BYTES, location=location)
    unwritten = Blob.written_at.is_(None)
    statement = statement.on_conflict_do_update(
        index_elements=["sha256"],
        set_={
            "last_put_at": func.clock_timestamp(),
            "location": case((unwritten, statement.excluded.location), else_=Blob.location),
        },
    )
    return session.scalars(statement.returning(Blob.written_at)).one()


def discard_damaged_blob(session: Session, sha256: str, written_at: datetime, location: str) -> None:
    """Let a damaged blob not count any more, so that it is written anew, unless it was meanwhile."""
    session.execute(
        update(Blob)
        .where(Blob.sha256 == sha256, Blob.written_at == written_at)
        .values(written_at=None, location=location)
        .execution_options(synchronize_session=False)
    )


def refresh_blob(session: Session, sha256: str) -> bool:
    """Keep a blob that is being written or read from collection for a while.

    Returns:
        Whether it is written.

    Raises:
        BlobMissing: it was collected.
    """
    statement = (
        update(Blob)
        .where(Blob.sha256 == sha256)
        .values(last_put_at=func.clock_timestamp())
        .returning(Blob.written_at)
        .execution_options(synchronize_session=False)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        raise _collected()
    return row.written_at is not None


def write_chunk(session: Session, sha256: str, ordinal: int, digest: ChunkDigest, data: bytes) -> bool:
    """Write a chunk of a reserved blob whose bytes the database keeps; False when the blob is written.

    A chunk that an earlier try or another writer left is overwritten, unless it is the same.

    Raises:
        BlobMissing: the blob was collected.
    """
    if refresh_blob(session, sha256):
        return False
    statement = insert(BlobChunk).values(
        sha256=sha256, ordinal=ordinal, size=digest.size, chunk_sha256=digest.sha256, data=data
    )
    values = {name: statement.excluded[name] for name in ("size", "chunk_sha256", "data")}
    different = or_(*(BlobChunk.__table__.c[name].is_distinct_from(value) for name, value in values.items()))
    session.execute(
        statement.on_conflict_do_update(index_elements=["sha256", "ordinal"], set_=values, where=different)
    )
    return True


def finish_blob(session: Session, sha256: str, location: str, digests: Sequence[ChunkDigest]) -> None:
    """Let a blob count whose bytes are all at `location`; nothing happens when it counts already.

    Raises:
        BlobMissing: it was collected, or chunks that the database should hold are not there.
    """
    blob = session.scalars(select(Blob).where(Blob.sha256 == sha256).with_for_update()).one_or_none()
    if blob is None:
        raise _collected()
    if blob.written_at is not None:
        return
    if location == POSTGRES:
        _require_chunks(session, sha256, digests)
    else:
        _replace_chunks(session, sha256, digests)
    blob.location, blob.chunk_bytes = location, CHUNK_BYTES
    blob.written_at = blob.last_put_at = session.scalars(select(func.clock_timestamp())).one()
    session.flush()


def _require_chunks(session: Session, sha256: str, digests: Sequence[ChunkDigest]) -> None:
    """Check that the database has these chunks, and no others."""
    session.execute(delete(BlobChunk).where(BlobChunk.sha256 == sha256, BlobChunk.ordinal >= len(digests)))
    stored = session.execute(
        select(BlobChunk.size, BlobChunk.chunk_sha256)
        .where(BlobChunk.sha256 == sha256, BlobChunk.data.is_not(None))
        .order_by(BlobChunk.ordinal)
    )
    if [ChunkDigest(*row) for row in stored] != list(digests):
        raise _collected()


def _replace_chunks(session: Session, sha256: str, digests: Sequence[ChunkDigest]) -> None:
    """Write the digests of chunks whose bytes are elsewhere."""
    session.execute(delete(BlobChunk).where(BlobChunk.sha256 == sha256))
    rows = [
        {"sha256": sha256, "ordinal": ordinal, "size": digest.size, "chunk_sha256": digest.sha256}
        for ordinal, digest in enumerate(digests)
    ]
    if rows:
        session.execute(insert(BlobChunk), rows)


def _collected() -> BlobMissing:
    return BlobMissing("The blob was collected while it was being put; put it again.")


def find_blob(session: Session, sha256: str) -> Blob | None:
    """A written blob."""
    return session.scalars(
        select(Blob).where(Blob.sha256 == sha256, Blob.written_at.is_not(None))
    ).one_or_none()


def get_chunk(session: Session, sha256: str, ordinal: int) -> BlobChunk | None:
    """A chunk, with its bytes if the database keeps them."""
    return session.scalars(
        select(BlobChunk).where(BlobChunk.sha256 == sha256, BlobChunk.ordinal == ordinal)
    ).one_or_none()


def keep_blobs(session: Session, digests: Collection[str]) -> None:
    """Keep blobs from collection: for a while, and for good if the transaction adds references to them.

    Raises:
        BlobMissing: one of them is not there, or not whole.
    """
    wanted = set(digests)
    lock = (
        select(Blob.sha256)
        .where(Blob.sha256.in_(wanted), Blob.written_at.is_not(None))
        .order_by(Blob.sha256)
        .with_for_update()
    )
    found = set(session.scalars(lock))
    if missing := len(wanted - found):
        raise BlobMissing(f"{missing} of {len(wanted)} blobs are not in the store; put them again.")
    session.execute(
        update(Blob)
        .where(Blob.sha256.in_(wanted))
        .values(last_put_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )
