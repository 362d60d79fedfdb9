"""Collecting blobs that nothing refers to any more.

A blob is first condemned: it loses its `written_at`, so nothing can refer to it from that commit on, and a
put writes it anew. Only then are its bytes deleted, and its row last: whatever dies in between, a blob that
counts has its bytes.
"""

from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.store import tables  # noqa: F401 - every table with a reference must be known
from app.store.blobs.rows import REFERENCES, Blob


def condemn_blobs(session: Session, *, older_than: timedelta, limit: int) -> list[tuple[str, str]]:
    """Condemn blobs that nothing refers to and that nobody has put for a while.

    From the commit on nobody can refer to them; a put writes them anew.

    Returns:
        The digest and the location of each, those that were condemned before included.
    """
    old = (
        select(Blob.sha256)
        .where(_is_collectable(older_than))
        .order_by(Blob.last_put_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    locked = list(session.scalars(old))
    # A second look: while the rows were being locked, a reference may have been committed.
    statement = (
        update(Blob)
        .where(Blob.sha256.in_(locked), _is_collectable(older_than))
        .values(written_at=None)
        .returning(Blob.sha256, Blob.location)
        .execution_options(synchronize_session=False)
    )
    return [(sha256, location) for sha256, location in session.execute(statement)]


def lock_condemned_blob(session: Session, sha256: str, *, older_than: timedelta) -> bool:
    """Take a condemned blob for deletion; False when somebody wants it again."""
    statement = (
        select(Blob.sha256)
        .where(Blob.sha256 == sha256, Blob.written_at.is_(None), _is_collectable(older_than))
        .with_for_update(skip_locked=True)
    )
    return session.scalar(statement) is not None


def delete_blob(session: Session, sha256: str) -> None:
    """Delete a locked blob's row and its chunks."""
    session.execute(delete(Blob).where(Blob.sha256 == sha256))


def _is_collectable(older_than: timedelta) -> ColumnElement[bool]:
    unreferenced = (~exists().where(column == Blob.sha256) for column in REFERENCES)
    return and_(Blob.last_put_at < func.clock_timestamp() - older_than, *unreferenced)
