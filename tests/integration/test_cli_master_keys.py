"""`memaudit keys master` and `rotate-master`; commands that do not start without the keys that are needed."""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.embedded.postgres_server import PostgresServer
from app.sealing.keyring import SECRET, Keyring
from app.sealing.master_keys import keys_of_directory
from app.settings import Settings
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import make_text_set_key, require_keys, text_set_sealer, with_keyring
from app.store.text_sets import TextSet
from app.store.webhooks import Webhook, WebhookSecret, add_webhook
from tests.command_line import invoke
from tests.integration.rows import add_audit_rows, add_tenant


@pytest.fixture(autouse=True)
def keys(database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the master keys, none of which is made yet."""
    monkeypatch.delenv("MEMAUDIT_MASTER_KEY")
    for name, value in {
        "MEMAUDIT_HOME": tmp_path,
        "MEMAUDIT_DATABASE_URL": database_url,
        "MEMAUDIT_BROKER_URL": broker_url,
        "MEMAUDIT_MASTER_KEYS": tmp_path / "keys",
    }.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path / "keys"


def answered(*arguments: str) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def add_sealed_sets(database_url: str, count: int) -> list[TextSet]:
    engine = sync_engine(database_url)
    with sync_sessions(engine, with_keyring(Keyring(Settings()))).begin() as session:
        tenant_id = add_tenant(session)
        audits = [add_audit_rows(session, tenant_id) for _ in range(count)]
        rows = [session.get_one(TextSet, audit.text_set_id) for audit in audits]
        for row in rows:
            make_text_set_key(session, row.id)
    engine.dispose()
    return rows


def add_webhook_secret(database_url: str, tenant_id: UUID) -> None:
    """The secret of a webhook, as `seal_secret` seals it in a process that has these keys."""
    engine = sync_engine(database_url)
    with Session(engine) as session, session.begin():
        webhook = Webhook(tenant_id=tenant_id, url="https://receiver.example", enabled=False)
        add_webhook(session, webhook, Keyring(Settings()).wrap(b"whsec", SECRET).write())
    engine.dispose()


def test_all_keys_are_wrapped_anew_and_the_old_one_can_go(database_url: str, keys: Path) -> None:
    first = answered("keys", "rotate-master")
    assert first["rewrapped"] == 0
    sets = add_sealed_sets(database_url, 3)
    add_webhook_secret(database_url, sets[0].tenant_id)
    assert [each["needed_by"] for each in answered("keys", "master")] == [4]
    (path,) = keys.iterdir()
    path = path.rename(path.with_name("20250101T000000Z.key"))
    second = answered("keys", "rotate-master")
    assert (second["rewrapped"], second["id"] != first["id"]) == (4, True)
    newest, oldest = answered("keys", "master")
    assert newest == {
        "id": second["id"],
        "from": str(max(keys.iterdir())),
        "wraps_now": True,
        "needed_by": 4,
    }
    assert oldest == {"id": first["id"], "from": str(path), "wraps_now": False, "needed_by": 0}
    path.unlink()
    engine = sync_engine(database_url)
    with Session(engine, info=with_keyring(Keyring(Settings()))) as session:
        assert all(text_set_sealer(session, row.id) for row in sets)
        assert (
            Keyring(Settings()).unwrap(session.scalars(select(WebhookSecret.sealed)).one(), SECRET)
            == b"whsec"
        )
    engine.dispose()
    with psycopg.connect(database_url) as connection:
        rotations = "SELECT actor, facts FROM trail WHERE action = 'master_key.rotated' ORDER BY id"
        trail = connection.execute(rotations).fetchall()
    assert [actor for actor, _ in trail] == ["command-line"] * 2
    assert trail[-1][1] == {"master_key": second["id"], "rewrapped": 4}


def test_a_key_that_is_needed_and_not_there_is_shown_as_missing(database_url: str, keys: Path) -> None:
    first = answered("keys", "rotate-master")
    add_sealed_sets(database_url, 1)
    shutil.rmtree(keys)
    refused = invoke("keys", "rotate-master")
    assert refused.exit_code == 1
    assert first["id"] in refused.stderr
    assert f"{first['id']}  MISSING: needed by 1 keys" in invoke("keys", "master").output


def test_the_first_key_of_a_directory_needs_no_database(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMAUDIT_DATABASE_URL")
    made = answered("keys", "new-master")
    (path,) = keys.iterdir()
    (held,) = Keyring(Settings()).held()
    assert made == {"id": held.key_id, "from": str(path)}
    assert path.stat().st_mode & 0o777 == 0o600
    refused = invoke("keys", "new-master")
    assert (refused.exit_code, "keys rotate-master" in refused.stderr) == (1, True)
    assert list(keys.iterdir()) == [path]
    elsewhere = invoke("keys", "new-master", "--directory", str(tmp_path / "elsewhere"))
    assert elsewhere.stdout.startswith(keys_of_directory(tmp_path / "elsewhere")[0].key_id)


def test_no_key_is_made_for_a_database_that_lacks_the_tables(
    keys: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", postgres_server.url_of("postgres"))
    refused = invoke("keys", "rotate-master")
    assert (refused.exit_code, "memaudit migrate" in refused.stderr) == (1, True)
    assert not keys.exists()


@pytest.mark.parametrize("command", [("api",), ("worker",), ("migrate",), ("keys", "master")])
def test_without_a_master_key_nothing_starts(command: tuple[str, ...]) -> None:
    refused = invoke(*command)
    assert refused.exit_code == 1
    assert "no master key" in refused.stderr
    assert "MEMAUDIT_MASTER_KEYS" in refused.stderr


@pytest.mark.parametrize("command", ["api", "worker"])
def test_with_another_master_key_nothing_starts(keys: Path, command: str, database_url: str) -> None:
    first = answered("keys", "rotate-master")
    engine = sync_engine(database_url)
    with Session(engine, info=with_keyring(Keyring(Settings()))) as session, session.begin():
        require_keys(session)
    engine.dispose()
    shutil.rmtree(keys)
    keys.mkdir()
    (keys / "20260101T000000Z.key").write_text("A" * 43 + "=")
    refused = invoke(command)
    assert refused.exit_code == 1
    assert first["id"] in refused.stderr
