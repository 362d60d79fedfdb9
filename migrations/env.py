"""Alembic's environment: one online mode, one database, an advisory lock against concurrent runs."""

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.store.tables import metadata

MIGRATION_LOCK = 0x6D656D61

engine = create_engine(context.config.attributes["database_url"], poolclass=NullPool, hide_parameters=True)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.run_migrations()
