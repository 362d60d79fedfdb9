"""The migrations make exactly the tables that the code declares, and can be undone."""

from typing import Any

import psycopg
from alembic import command
from psycopg import sql

from app.embedded.postgres_server import PostgresServer
from app.store.migrate import alembic_config, downgrade, upgrade
from app.store.sessions import sync_engine, sync_sessions
from tests.integration.rows import add_edit, add_tenant


def test_no_drift_between_migrations_and_tables(database_url: str) -> None:
    command.check(alembic_config(database_url))


def test_up_down_and_up_again(postgres_server: PostgresServer) -> None:
    url = _empty_database(postgres_server, "up_and_down")
    upgrade(url)
    full = _tables(url)
    downgrade(url)
    assert _tables(url) == {"alembic_version"}
    upgrade(url)
    assert _tables(url) == full
    assert "audits" in full


def test_rank_ratios_of_stored_edits_follow(postgres_server: PostgresServer) -> None:
    url = _empty_database(postgres_server, "rank_ratios")
    upgrade(url)
    engine = sync_engine(url)
    with sync_sessions(engine).begin() as session:
        add_edit(session, add_tenant(session)).spec = {"method": "kfac", "rank_ratio": {"gate": 0.25}}
    engine.dispose()
    downgrade(url, "0003")
    assert _specs(url) == [{"method": "kfac", "rank_ratio": 0.25}]
    upgrade(url)
    assert _specs(url) == [{"method": "kfac", "rank_ratio": {"gate": 0.25, "up": 0.25, "down": 0.25}}]


def _empty_database(postgres_server: PostgresServer, name: str) -> str:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return postgres_server.url_of(name)


def _specs(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url) as connection:
        return [spec for (spec,) in connection.execute("SELECT spec FROM edits")]


def _tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in rows}
