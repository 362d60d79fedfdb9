"""The migrations make exactly the tables that the code declares, and can be undone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic import command
from psycopg import sql

from app.embedded.postgres_server import PostgresServer
from app.store.core.migrate import alembic_config, downgrade, upgrade
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.enqueueing import enqueue_audit, enqueue_edit, enqueue_shards, enqueue_validation
from app.store.language_models import LanguageModel
from migrations import ops
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


def test_jobs_of_the_previous_release_and_of_its_processes_have_an_owner(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _empty_database(postgres_server, "owners")
    upgrade(url)
    engine = sync_engine(url)
    with sync_sessions(engine).begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        edit = add_edit(session, audit.tenant_id)
    engine.dispose()
    downgrade(url, "0008")
    # As processes of that release go on to write them.
    add = (
        "INSERT INTO jobs (id, kind, queue, tenant_id, language_model_id, audit_id, edit_id, payload, state, "
        "priority, epoch, attempts, progress) "
        "SELECT gen_random_uuid(), 'kind', 'gpu', %(tenant)s, %(model)s, "
        "%(audit)s, %(edit)s, '{}', 'queued', 0, 0, 0, 0 FROM generate_series(1, 3)"
    )
    model = {"tenant": audit.tenant_id, "model": audit.language_model_id, "audit": None, "edit": None}
    jobs = (model | {"audit": audit.id}, model | {"edit": edit.id}, model)
    owners = {("audit", audit.id), ("edit", edit.id), ("language_model", audit.language_model_id)}
    monkeypatch.setattr(ops, "ROWS_AT_ONCE", 2)
    with psycopg.connect(url, autocommit=True) as connection:
        for job in jobs:
            connection.execute(add, job)
        upgrade(url)
        read = "SELECT owner_kind, owner_id, count(*) FROM jobs GROUP BY 1, 2"
        assert set(connection.execute(read).fetchall()) == {(*owner, 3) for owner in owners}
        for job in jobs:
            connection.execute(add, job)
        assert set(connection.execute(read).fetchall()) == {(*owner, 6) for owner in owners}
        connection.execute("LISTEN memaudit_changes")
        connection.execute("UPDATE jobs SET progress = 1")
        heard = {notice.payload for notice in connection.notifies(timeout=1)}
    assert heard == {str(owner_id) for _, owner_id in owners}


def test_new_jobs_carry_the_columns_that_the_previous_release_reads(postgres_server: PostgresServer) -> None:
    url = _empty_database(postgres_server, "new_jobs")
    upgrade(url)
    engine = sync_engine(url)
    with sync_sessions(engine).begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        edit = add_edit(session, audit.tenant_id)
        enqueue_audit(session, audit)
        enqueue_shards(session, audit, [(0, 5), (5, 10)])
        enqueue_edit(session, edit)
        enqueue_validation(session, session.get_one(LanguageModel, edit.language_model_id))
    engine.dispose()
    downgrade(url, "0008")
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT kind, audit_id, edit_id, language_model_id FROM jobs").fetchall()
    assert sorted(found, key=str) == sorted(
        [
            ("plan_audit", audit.id, None, audit.language_model_id),
            ("score_shard", audit.id, None, audit.language_model_id),
            ("score_shard", audit.id, None, audit.language_model_id),
            ("run_edit", None, edit.id, edit.language_model_id),
            ("validate_language_model", None, None, edit.language_model_id),
        ],
        key=str,
    )


ADD_JOB = (
    "INSERT INTO jobs (id, kind, queue, tenant_id, language_model_id, payload, state, priority, epoch, "
    "attempts, progress) VALUES (gen_random_uuid(), 'kind', 'gpu', %s, %s, '{}', 'cancelled', 0, 0, 0, 0)"
)


@pytest.fixture
def before_jobs(postgres_server: PostgresServer) -> tuple[str, tuple[UUID, UUID]]:
    """A database of revision 0004, and the tenant and the language model of a job."""
    url = _empty_database(postgres_server, f"jobs_{uuid4().hex}")
    upgrade(url)
    engine = sync_engine(url)
    with sync_sessions(engine).begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
    engine.dispose()
    downgrade(url, "0004")
    return url, (audit.tenant_id, audit.language_model_id)


@pytest.mark.parametrize(
    ("revision", "index"),
    [("0005", "ix_jobs_waiting"), ("0006", "ix_jobs_ended"), ("0009", "ix_jobs_owner_id_state")],
)
def test_jobs_are_written_while_their_indexes_are_built(
    before_jobs: tuple[str, tuple[UUID, UUID]], monkeypatch: pytest.MonkeyPatch, revision: str, index: str
) -> None:
    url, job = before_jobs
    monkeypatch.setattr(ops, "ROWS_AT_ONCE", 2)
    upgrade(url, f"{int(revision) - 1:04}")
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(url) as slow,
        psycopg.connect(url, autocommit=True) as quick,
    ):
        quick.execute("SET lock_timeout = '5s'")
        for _ in range(5):
            quick.execute(ADD_JOB, job)
        # What an earlier try left behind has the name, and not the columns.
        quick.execute(sql.SQL("CREATE INDEX {} ON jobs (epoch)").format(sql.Identifier(index)))
        # It has a snapshot, for which a concurrent build waits, and no lock of the jobs.
        slow.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        upgrading = threads.submit(upgrade, url, revision)
        _wait_for_builder(quick)
        quick.execute(ADD_JOB, job)
        assert not upgrading.done()
        slow.commit()
        upgrading.result(timeout=30)
        definition = quick.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s", (index,)
        ).fetchone()
        if revision == "0006":
            # All but the one that was added late have an end.
            assert quick.execute("SELECT FROM jobs WHERE finished_at IS NULL").rowcount == 1
    assert definition is not None
    assert "(epoch)" not in definition[0]


def test_a_migration_that_waits_for_the_jobs_holds_nobody_up(
    before_jobs: tuple[str, tuple[UUID, UUID]],
) -> None:
    url, job = before_jobs
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(url) as slow,
        psycopg.connect(url, autocommit=True) as quick,
    ):
        quick.execute("SET lock_timeout = '5s'")
        slow.execute(ADD_JOB, job)
        upgrading = threads.submit(upgrade, url)
        waiting = (
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
            "AND query ~ 'ALTER TABLE jobs'"
        )
        until(lambda: quick.execute(waiting).rowcount == 1, "a change of the table waits")
        quick.execute(ADD_JOB, job)
        assert not upgrading.done()
        slow.commit()
        upgrading.result(timeout=30)


def _wait_for_builder(connection: psycopg.Connection) -> None:
    """Wait until an index is dropped or built, which waits for a transaction in turn."""
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
