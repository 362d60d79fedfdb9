"""Writing the texts of a set with COPY, as they come in."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy.orm import Session

from app.errors import FieldError, ServiceUnavailable, ValidationFailed
from app.store.texts import COPY_COLUMNS, CopyRow, TextRow

# In binary a box is sent as it is; as text it would be twice as long.
_COPY = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
    sql.Identifier(TextRow.__tablename__), sql.SQL(", ").join(map(sql.Identifier, COPY_COLUMNS))
)
_TYPES = list(COPY_COLUMNS.values())


def copy_texts(session: Session, batches: AsyncIterator[Sequence[CopyRow]]) -> None:
    """Write texts in the session's transaction, without holding more than a batch.

    The session must run on an async connection.

    Raises:
        ValidationFailed: two texts have the same id.
        ServiceUnavailable: the database broke off or is full.
    """
    connection = session.connection().connection.dbapi_connection
    assert connection is not None
    connection.run_async(lambda driver: _copy(driver, batches))


async def _copy(connection: psycopg.AsyncConnection, batches: AsyncIterator[Sequence[CopyRow]]) -> None:
    with _failures_named():
        async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            async for batch in batches:
                for row in batch:
                    await copy.write_row(row)


def copy_texts_of_worker(session: Session, batches: Iterable[Sequence[CopyRow]]) -> None:
    """As `copy_texts`, on the sync connection of a worker; a database that breaks off is its driver's error.

    Raises:
        ValidationFailed: two texts have the same id.
    """
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    with _doubled_ids_named(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for batch in batches:
            for row in batch:
                copy.write_row(row)


@contextmanager
def _doubled_ids_named() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation:
        raise ValidationFailed(
            "Two texts have the same id (a text without an id is called by its place: 0, 1, 2, …).",
            [FieldError(pointer="", code="duplicate_id")],
        ) from None


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        with _doubled_ids_named():
            yield
    except psycopg.OperationalError:
        raise ServiceUnavailable("The database could not take the texts; nothing was stored.") from None
