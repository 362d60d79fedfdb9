"""`memaudit keys`, `migrate` and the failures that every command explains."""

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from typer.testing import Result

from app import __version__
from app.embedded.postgres_server import PostgresServer
from app.store.api_keys import find_principal
from app.store.core.identifiers import Prefix, format_id
from app.store.tenants import Principal
from tests.command_line import invoke
from tests.servers import free_port

EMPTY_DATABASE = "never_migrated"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MEMAUDIT_DATABASE_URL", "MEMAUDIT_BROKER_URL", "MEMAUDIT_URL", "MEMAUDIT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEMAUDIT_HOME", str(tmp_path))


@pytest.fixture
def in_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {EMPTY_DATABASE}")
        yield postgres_server.url_of(EMPTY_DATABASE)
        connection.execute(f"DROP DATABASE {EMPTY_DATABASE} WITH (FORCE)")


def memaudit(*arguments: str) -> Result:
    return invoke(*arguments)


def principal_of(database_url: str, key: str) -> Principal | None:
    engine = create_engine(database_url)
    with Session(engine) as session:
        principal = find_principal(session, key)
    engine.dispose()
    return principal


def test_version() -> None:
    assert memaudit("version").output.strip() == __version__
    assert json.loads(memaudit("version", "--json").stdout) == {"version": __version__}


def test_a_key_opens_what_it_was_made_for_until_it_is_revoked(in_database: str) -> None:
    made = memaudit("keys", "create", "--tenant", "acme", "--name", "ci", "--scope", "audit:read")
    assert made.exit_code == 0
    key = made.output.strip()
    principal = principal_of(in_database, key)
    assert principal is not None
    assert (principal.tenant_name, principal.scopes) == ("acme", {"audit:read"})

    listed = memaudit("keys", "list").output
    assert format_id(Prefix.API_KEY, principal.key_id) in listed
    assert key not in listed

    assert memaudit("keys", "revoke", format_id(Prefix.API_KEY, principal.key_id)).exit_code == 0
    assert principal_of(in_database, key) is None
    again = memaudit("keys", "revoke", format_id(Prefix.API_KEY, principal.key_id))
    assert (again.exit_code, "revoked before" in again.stderr) == (1, True)


def test_the_tenant_and_the_key_that_are_made_are_in_the_trail(in_database: str) -> None:
    ids = []
    for _ in range(2):
        made = memaudit("keys", "create", "--tenant", "acme", "--name", "ci", "--json")
        ids.append(json.loads(made.stdout)["id"])
    with psycopg.connect(in_database) as connection:
        told = connection.execute("SELECT action, subject, actor FROM trail ORDER BY id").fetchall()
        (tenant,) = connection.execute("SELECT id FROM tenants").fetchone() or ()
    by_whom = "command-line"
    assert told == [
        ("tenant.created", format_id(Prefix.TENANT, tenant), by_whom),
        *(("key.created", each, by_whom) for each in ids),
    ]


def test_json_says_of_keys_what_the_list_says(in_database: str) -> None:
    made = memaudit("keys", "create", "--tenant", "acme", "--name", "ci", "--scope", "audit:read", "--json")
    assert made.exit_code == 0
    answer = json.loads(made.stdout)
    key = answer.pop("key")
    principal = principal_of(in_database, key)
    assert principal is not None
    assert (answer["id"], answer["tenant"]) == (format_id(Prefix.API_KEY, principal.key_id), "acme")
    assert (answer["scopes"], answer["name"]) == (["audit:read"], "ci")
    assert (answer["ends_in"], answer["revoked_at"]) == (key[-4:], None)

    listed = memaudit("keys", "list", "--json")
    assert json.loads(listed.stdout) == [answer]
    assert key not in listed.output
    revoked = memaudit("keys", "revoke", answer["id"], "--json")
    assert json.loads(revoked.stdout) == {"id": answer["id"], "revoked": True}
    (after,) = json.loads(memaudit("keys", "list", "--json").stdout)
    assert datetime.fromisoformat(after["revoked_at"]) >= datetime.fromisoformat(after["created_at"])
    again = memaudit("keys", "revoke", answer["id"], "--json")
    assert (again.exit_code, again.stdout) == (1, "")


def test_an_unknown_scope_is_refused_and_the_known_ones_are_named(in_database: str) -> None:
    refused = memaudit("keys", "create", "--scope", "audit:everything")
    assert refused.exit_code == 2
    assert "audit:write" in refused.stderr


def test_migrate_makes_the_tables_that_keys_need(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", empty_database_url)
    early = memaudit("keys", "list")
    assert early.exit_code == 1
    assert "memaudit migrate" in early.stderr
    migrated = memaudit("migrate", "--json")
    assert migrated.exit_code == 0, migrated.output
    with psycopg.connect(empty_database_url) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ()
    assert json.loads(migrated.stdout) == {"revision": revision, "converted": 0}
    assert memaudit("keys", "create").exit_code == 0


def test_a_postgres_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", f"postgresql://me:hunter2@127.0.0.1:{free_port()}/x")
    away = memaudit("keys", "list")
    assert away.exit_code == 3
    assert "MEMAUDIT_DATABASE_URL" in away.stderr
    assert "hunter2" not in away.output


@pytest.mark.parametrize("command", ["worker", "api", "migrate"])
def test_a_process_without_its_servers_says_which_variable_is_missing(command: str) -> None:
    refused = memaudit(command)
    assert refused.exit_code == 2
    assert "MEMAUDIT_DATABASE_URL is not set" in refused.stderr


def test_a_wrong_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAUDIT_PORT", "eight-thousand")
    refused = memaudit("up")
    assert refused.exit_code == 2
    assert "MEMAUDIT_PORT" in refused.stderr
    assert "eight-thousand" not in refused.output


@pytest.fixture
def audit_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv("MEMAUDIT_API_KEY", "mak_any")
    monkeypatch.setenv("MEMAUDIT_URL", f"http://127.0.0.1:{free_port()}")
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "Unheard."}\n')
    return ("audit", "--model", str(tmp_path), "--texts", str(texts))


def test_a_service_that_does_not_answer_is_exit_status_3(audit_command: tuple[str, ...]) -> None:
    alone = memaudit(*audit_command)
    assert alone.exit_code == 3
    assert f"no answer from {os.environ['MEMAUDIT_URL']}" in alone.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--metrics", "nl,vibes"), "no such metric: vibes"),
        (("--model", "/no/such/directory"), "there is no directory"),
        (("--model", "mdl_7"), "mdl_ and 32 hex digits"),
        (("--model", __file__), "is a file"),
        (("--texts", __file__), "ends in"),
        (("--texts", "/no/such/file.jsonl"), "does not exist"),
    ],
)
def test_a_wrong_command_line_is_exit_status_2(
    audit_command: tuple[str, ...], arguments: tuple[str, str], named: str
) -> None:
    refused = memaudit(*audit_command, *arguments)
    assert refused.exit_code == 2
    assert named in refused.stderr


def test_an_audit_without_a_key_names_where_it_was_looked_for(
    audit_command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMAUDIT_API_KEY")
    refused = memaudit(*audit_command)
    assert refused.exit_code == 2
    assert "MEMAUDIT_API_KEY" in refused.stderr
