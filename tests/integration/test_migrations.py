"""The migrations make exactly the tables that the code declares, and can be undone."""

import psycopg
from alembic import command
from psycopg import sql

from app.embedded.postgres_server import PostgresServer
from app.store.migrate import alembic_config, downgrade, upgrade


def test_no_drift_between_migrations_and_tables(database_url: str) -> None:
    command.check(alembic_config(database_url))


def test_up_down_and_up_again(postgres_server: PostgresServer) -> None:
    name = sql.Identifier("up_and_down")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    url = postgres_server.url_of("up_and_down")
    upgrade(url)
    full = _tables(url)
    downgrade(url)
    assert _tables(url) == {"alembic_version"}
    upgrade(url)
    assert _tables(url) == full
    assert "audits" in full


def _tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in rows}
