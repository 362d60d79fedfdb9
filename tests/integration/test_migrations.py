"""The migrations make exactly the tables that the code declares, and can be undone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from alembic import command
from psycopg import sql

from app.embedded.postgres_server import PostgresServer
from app.store.core.migrate import alembic_config, downgrade, upgrade
from app.store.core.sessions import sync_engine, sync_sessions
from tests.integration.rows import add_audit_rows, add_edit, add_tenant
from tests.live_service import until


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


def test_migrations_that_are_started_at_once_take_turns(postgres_server: PostgresServer) -> None:
    """An index that is built concurrently waits for every snapshot: whoever waits for a turn has none."""
    url = _empty_database(postgres_server, "at_once")
    command = [sys.executable, "-m", "app.cli", "migrate"]
    environment = os.environ | {"MEMAUDIT_DATABASE_URL": url}
    runs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    assert "audits" in _tables(url)


def test_scores_are_written_while_their_indexes_are_built(postgres_server: PostgresServer) -> None:
    url = _empty_database(postgres_server, "live")
    upgrade(url)
    engine = sync_engine(url)
    with sync_sessions(engine).begin() as session:
        audit_id = add_audit_rows(session, add_tenant(session)).id
    engine.dispose()
    downgrade(url, "0007")
    add = (
        "INSERT INTO scores (audit_id, ordinal, text_id, n_tokens, n_bytes, n_windows, metrics, error) "
        "VALUES (%s, %s, '', 0, 0, 0, '{}', 'no_tokens')"
    )
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(url) as slow,
        psycopg.connect(url, autocommit=True) as quick,
    ):
        quick.execute("SET lock_timeout = '5s'")
        # What an earlier try left behind has the name, and not the columns.
        quick.execute("CREATE INDEX ix_scores_audit_id_group ON scores (n_bytes)")
        slow.execute(add, (audit_id, 0))
        upgrading = threads.submit(upgrade, url)
        _wait_for_builder(quick)
        quick.execute(add, (audit_id, 1))
        assert not upgrading.done()
        slow.commit()
        upgrading.result(timeout=30)
        definitions = dict(
            quick.execute("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'scores'").fetchall()
        )
    assert '(audit_id, "group", ordinal)' in definitions["ix_scores_audit_id_group"]
    assert '(audit_id, "group", nl, ordinal)' in definitions["ix_scores_audit_id_group_nl"]


def _wait_for_builder(connection: psycopg.Connection) -> None:
    """Wait until an index of the scores is dropped or built, which waits for a transaction in turn."""
    waiting = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query ~ 'INDEX CONCURRENTLY'"
    )
    until(lambda: connection.execute(waiting).rowcount == 1, "an index waits")


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
