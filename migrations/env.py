"""Alembic's environment: one online mode, one database, an advisory lock against concurrent runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.store.tables import metadata

MIGRATION_LOCK = 0x6D656D61
LOCK_POLL_SECONDS = 0.1

engine = create_engine(context.config.attributes["database_url"], poolclass=NullPool, hide_parameters=True)


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock, on a connection of its own: a migration may commit on the way.

    It is asked for again and again: a statement that waits for it would hold a snapshot, and an index that
    is built concurrently waits for all snapshots.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}):
            time.sleep(LOCK_POLL_SECONDS)
        yield


with alone(), engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
