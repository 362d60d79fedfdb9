"""Blobs: bytes named by their SHA-256, in chunks that have a digest each.

A blob is reserved, then written under its row's lock, then `written_at` is set: a blob without it does not
count. Its chunks hold the bytes themselves, or only their digests when the bytes are in an object store.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from app.errors import BlobMissing
from app.store.base import Base, CreatedAt

CHUNK_BYTES: Final = 8 * 2**20

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


def reserve_blob(session: Session, sha256: str, size: int, location: str) -> bool:
    """Say that a blob is wanted now, which keeps it from collection for a while.

    Returns:
        Whether its bytes are already there.
    """
    _wait_briefly_for_locks(session)
    statement = (
        insert(Blob)
        .values(sha256=sha256, size=size, chunk_bytes=CHUNK_BYTES, location=location)
        .on_conflict_do_update(index_elements=["sha256"], set_={"last_put_at": func.clock_timestamp()})
        .returning(Blob.written_at)
    )
    return session.scalars(statement).one() is not None


def _wait_briefly_for_locks(session: Session) -> None:
    """Give up, to be tried again, when another worker holds a blob: it may have stopped while writing it."""
    session.execute(text("SET LOCAL lock_timeout = '30s'"))


def unwrite_blob(session: Session, sha256: str) -> None:
    """Let a damaged blob not count any more, so that it is written anew."""
    session.execute(
        update(Blob)
        .where(Blob.sha256 == sha256)
        .values(written_at=None)
        .execution_options(synchronize_session=False)
    )


def lock_unwritten_blob(session: Session, sha256: str, location: str) -> Blob | None:
    """Take a reserved blob for writing, without the chunks of an earlier try; None when it is written.

    Raises:
        BlobMissing: it is not reserved any more.
    """
    _wait_briefly_for_locks(session)
    blob = session.scalars(select(Blob).where(Blob.sha256 == sha256).with_for_update()).one_or_none()
    if blob is None:
        raise BlobMissing("The blob was collected while it was being put; put it again.")
    if blob.written_at is not None:
        return None
    session.execute(delete(BlobChunk).where(BlobChunk.sha256 == sha256))
    blob.location, blob.chunk_bytes = location, CHUNK_BYTES
    session.flush()
    return blob


def add_chunk(
    session: Session, sha256: str, ordinal: int, digest: ChunkDigest, data: bytes | None = None
) -> None:
    """Write a chunk of a locked blob, with its bytes if the database keeps them."""
    session.execute(
        insert(BlobChunk).values(
            sha256=sha256, ordinal=ordinal, size=digest.size, chunk_sha256=digest.sha256, data=data
        )
    )


def finish_blob(session: Session, blob: Blob) -> None:
    """Let a locked blob count: every chunk of it is written."""
    blob.written_at = blob.last_put_at = session.scalars(select(func.clock_timestamp())).one()
    session.flush()


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
