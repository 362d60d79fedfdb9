"""Writing the texts of a set with COPY, as they come in."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.orm import Session

from app.errors import FieldError, ServiceUnavailable, ValidationFailed
from app.store.text_sets import COPY_COLUMNS, TextRow

CopyRow = tuple[Any, ...]  # the values of COPY_COLUMNS

_COPY = sql.SQL("COPY {} ({}) FROM STDIN").format(
    sql.Identifier(TextRow.__tablename__), sql.SQL(", ").join(map(sql.Identifier, COPY_COLUMNS))
)


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
    try:
        async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            async for batch in batches:
                for row in batch:
                    await copy.write_row(row)
    except psycopg.errors.UniqueViolation:
        raise ValidationFailed(
            "Two texts have the same id (a text without an id is called by its place: 0, 1, 2, …).",
            [FieldError(pointer="", code="duplicate_id")],
        ) from None
    except psycopg.OperationalError:
        raise ServiceUnavailable("The database could not take the texts; nothing was stored.") from None
