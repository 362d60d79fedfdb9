"""What migrations do to tables that are in use meanwhile. All of it can be done again when it was broken off."""

import time
from collections.abc import Callable, Sequence
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from psycopg.errors import LockNotAvailable
from sqlalchemy.exc import OperationalError

LOCK_SECONDS = 1.0
LOCK_PAUSE_SECONDS = 1.0
LOCK_TRIES = 60
ROWS_AT_ONCE = 10_000
FIRST_ID = UUID(int=0)


def alter(*changes: Callable[[], object]) -> None:
    """Change tables, each change in a transaction of its own.

    A change that waits for its lock holds up all who come after it, so that it gives up soon and tries again.

    Raises:
        OperationalError: a table was in use all the time.
    """
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        for change in changes:
            _when_lock_is_given(change)
        op.execute("RESET lock_timeout")


def _when_lock_is_given(change: Callable[[], object]) -> None:
    for left in reversed(range(LOCK_TRIES)):
        try:
            change()
        except OperationalError as error:
            if not left or not isinstance(error.orig, LockNotAvailable):
                raise
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


def update_in_batches(statement: str) -> None:
    """Run an update of a few rows, RETURNING their ids, until there are none: those after `:after`, `:limit`."""
    with op.get_context().autocommit_block():
        after = FIRST_ID
        while ids := (
            op.get_bind().scalars(sa.text(statement), {"after": after, "limit": ROWS_AT_ONCE}).all()
        ):
            after = max(ids)


def build_index(name: str, table: str, columns: Sequence[str], where: str | None = None) -> None:
    """Build an index while its table is read and written."""
    with op.get_context().autocommit_block():
        # What an earlier try may have left behind half built is not valid.
        op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            name,
            table,
            columns,
            postgresql_where=None if where is None else sa.text(where),
            postgresql_concurrently=True,
        )
