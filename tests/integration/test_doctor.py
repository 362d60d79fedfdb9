"""`memaudit doctor` on set-ups that are broken, each in one way: the check for it says so, and what to do."""

import json
import os
import resource
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from app import __version__
from app.doctor import disks, servers, workers
from app.doctor.check import Check, Finding, Patient, examine, ok
from app.doctor.registry import CHECKS
from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from app.sealing.keyring import Keyring
from app.sealing.master_keys import ensure_master_key, make_master_key
from app.settings import Settings
from app.signing.keys import ensure_signing_key
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import make_text_set_key, require_keys, with_keyring
from tests.command_line import invoke
from tests.integration.rows import add_audit_rows, add_tenant
from tests.servers import free_port

BY_NAME = {check.name: check for check in CHECKS}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing set, and no hub to ask."""
    for name in list(os.environ):
        if name.startswith("MEMAUDIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def sound(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    """Settings of a set-up in which nothing is wrong but that no process runs."""
    (tmp_path / "models").mkdir()
    ensure_signing_key(tmp_path / "signing-keys")
    ensure_master_key(tmp_path / "master-keys")
    return Settings(
        home=tmp_path,
        port=free_port(),
        database_url=database_url,
        broker_url=broker_url,
        model_roots=[tmp_path / "models"],
        artifact_store=f"file://{tmp_path / 'artifacts'}",
    )


def finding(name: str, settings: Settings, **changes: Any) -> Finding:
    """What one check finds in settings with some changed."""
    return BY_NAME[name].run(Patient(Settings(**{**settings.model_dump(), **changes})))


def says(found: Finding, outcome: str, words: str) -> None:
    assert (found.outcome, words in found.found) == (outcome, True), found
    assert bool(found.advice) == (outcome != "ok"), found


def announce(database: psycopg.Connection, queue: str, release: str, age: str = "1 s") -> None:
    database.execute(
        "INSERT INTO worker_classes (name, queue, device, threads, memory_bytes, last_seen_at, release) "
        "VALUES (%s, %s, 'cpu', 1, 1, clock_timestamp() - %s::interval, %s)",
        [f"{queue} {release}", queue, age, release],
    )


def test_a_sound_set_up_fails_in_nothing_but_what_does_not_run(
    sound: Settings, database: psycopg.Connection
) -> None:
    announce(database, "gpu", __version__)
    found = {each.check.name: each.finding for each in examine(Patient(sound), CHECKS, lambda _: None)}
    assert found.keys() == BY_NAME.keys()
    # What this machine lacks is its own affair: room, files, a card.
    of_the_machine = {"home", "temporary files", "shared memory", "open files", "gpu"}
    wrong = {name: each for name, each in found.items() if each.outcome != "ok"}
    assert wrong.keys() - of_the_machine == {"api"}, wrong
    assert found["api"].outcome == "warn"


def test_a_name_that_nobody_reads(sound: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAUDIT_LEASE_SECOND", "5")
    says(finding("settings", sound), "warn", "MEMAUDIT_LEASE_SECOND")
    says(finding("lease", sound, lease_seconds=5.0), "warn", "5 seconds")


@pytest.mark.parametrize(("limit", "outcome"), [(256, "fail"), (1024, "warn"), (4096, "ok")])
def test_few_files(sound: Settings, monkeypatch: pytest.MonkeyPatch, limit: int, outcome: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    says(finding("open files", sound), outcome, str(limit))


def test_postgres_that_is_away_hides_what_is_read_from_it_and_no_secret_is_told(sound: Settings) -> None:
    away = {"database_url": f"postgresql://memaudit:canary@127.0.0.1:{free_port()}/memaudit"}
    says(finding("postgres", sound, **away), "fail", "does not answer")
    patient = Patient(Settings(**{**sound.model_dump(), **away}))
    asked = [BY_NAME[name] for name in ("postgres", "migrations", "connections", "clock", "workers")]
    found = [each.finding for each in examine(patient, asked, lambda _: None)]
    assert sum("was not looked at, since Postgres" in each.found for each in found) == 4
    assert "canary" not in str(found)


def test_an_old_postgres_and_one_with_few_connections(
    sound: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(finding("connections", sound, database_pool_size=60), "fail", "one API process may want 121")
    monkeypatch.setattr(servers, "_OLDEST_VERSION", 99)
    says(finding("postgres", sound), "fail", "too old")


def test_a_schema_that_is_none_old_or_newer(
    sound: Settings, database: psycopg.Connection, postgres_server: PostgresServer
) -> None:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE of_no_tables")
    empty = {"database_url": postgres_server.url_of("of_no_tables")}
    says(finding("migrations", sound, **empty), "fail", "no tables")
    assert "memaudit migrate" in finding("migrations", sound, **empty).advice
    for revision, words in (("0001", "needs"), ("9999", "newer release")):
        database.execute("UPDATE alembic_version SET version_num = %s", [revision])
        says(finding("migrations", sound), "fail", words)


@pytest.mark.parametrize(("ahead", "outcome"), [(0, "ok"), (-10, "warn"), (3600, "fail")])
def test_clocks_that_differ(
    sound: Settings, monkeypatch: pytest.MonkeyPatch, ahead: int, outcome: str
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # noqa: ARG003 - it is UTC
            return datetime.now(UTC) + timedelta(seconds=ahead)

    monkeypatch.setattr(servers, "datetime", Ahead)
    says(finding("clock", sound), outcome, "differ by")


def test_redis_that_is_away_and_one_that_may_only_be_read(sound: Settings, redis_server: RedisServer) -> None:
    says(finding("redis", sound), "ok", "takes messages")
    away = {"broker_url": f"redis://:canary@127.0.0.1:{free_port()}/0"}
    says(finding("redis", sound, **away), "fail", "does not take messages")
    assert "canary" not in str(finding("redis", sound, **away))
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            says(finding("redis", sound), "fail", "does not take messages")
        finally:
            client.config_set("maxmemory", 0)


def test_nothing_set_and_nothing_to_start(sound: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, url in (("postgres", "database_url"), ("redis", "broker_url")):
        says(finding(name, sound, **{url: None}), "warn", "None is set")
    monkeypatch.setattr("app.embedded.binaries._package_directory", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for name, url in (("postgres", "database_url"), ("redis", "broker_url")):
        says(finding(name, sound, **{url: None}), "fail", "There is no")


def test_a_port_that_another_program_has(sound: Settings) -> None:
    says(finding("api", sound), "warn", "the port is free")
    with socket.create_server(("127.0.0.1", sound.port)):
        says(finding("api", sound), "fail", "none could listen there")
    says(finding("api", sound, host="203.0.113.1"), "fail", "none could listen there")


@pytest.mark.parametrize(("gib", "outcome"), [(0.1, "fail"), (2, "warn"), (50, "ok")])
def test_little_room(sound: Settings, monkeypatch: pytest.MonkeyPatch, gib: float, outcome: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, int(gib * 2**30)))
    says(finding("home", sound), outcome, "has room for")
    says(finding("temporary files", sound), outcome, "has room for")


def test_little_shared_memory(sound: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**24, 0, 2**24))
    says(finding("shared memory", sound), "warn", "16 MB")
    monkeypatch.setattr(disks, "_SHARED_MEMORY", tmp_path / "absent")
    says(finding("shared memory", sound), "warn", "There is no")


def test_directories_that_cannot_be_used(
    sound: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(finding("model roots", sound, model_roots=[]), "warn", "No directory is allowed")
    says(finding("model roots", sound, model_roots=[tmp_path / "absent"]), "fail", "is no directory")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    says(finding("model roots", sound), "fail", "cannot be read")
    says(finding("home", sound), "fail", "cannot be written to")


def test_an_artifact_store_that_takes_nothing(sound: Settings, tmp_path: Path) -> None:
    says(finding("artifact store", sound), "ok", "can be written to")
    assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    says(finding("artifact store", sound, artifact_store="postgres:"), "ok", "in the database")
    (tmp_path / "file").touch()
    broken = {"artifact_store": f"file://{tmp_path / 'file' / 'below'}"}
    says(finding("artifact store", sound, **broken), "fail", "cannot be written to")


def test_master_keys_that_are_absent_open_to_others_or_not_those_of_what_is_stored(
    sound: Settings, tmp_path: Path, database: psycopg.Connection
) -> None:
    says(finding("master keys", sound), "ok", "open all 0 keys")
    absent = {"master_keys": tmp_path / "absent"}
    says(finding("master keys", sound, **absent), "fail", "no master key")
    says(finding("master keys", sound, **absent, database_url=None), "warn", "no master key yet")
    (path,) = (tmp_path / "master-keys").iterdir()
    path = path.rename(path.with_name("20250101T000000Z.key"))
    path.chmod(0o640)
    says(finding("master keys", sound), "fail", f"Others may read {path.name}")
    path.chmod(0o600)
    engine = sync_engine(sound.require_database_url())
    with sync_sessions(engine, with_keyring(Keyring(sound))).begin() as session:
        require_keys(session)
        make_text_set_key(session, add_audit_rows(session, add_tenant(session)).text_set_id)
    engine.dispose()
    says(finding("master keys", sound), "ok", "open all 2 keys")
    (held,) = Keyring(sound).held()
    path.rename(tmp_path / path.name)
    make_master_key(tmp_path / "master-keys")
    says(finding("master keys", sound), "fail", f"{held.key_id} (2)")
    (tmp_path / path.name).rename(path)
    says(finding("master keys", sound), "ok", "open all 2 keys")
    database.execute("UPDATE instance_keys SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1)")
    says(finding("master keys", sound), "fail", "changed or moved")


def test_keys_that_are_absent_broken_or_open_to_others(sound: Settings, tmp_path: Path) -> None:
    says(finding("signing keys", sound, signing_keys=tmp_path / "absent"), "warn", "has no key")
    (key,) = (tmp_path / "signing-keys").glob("*Z.pem")
    key.chmod(0o644)
    says(finding("signing keys", sound), "fail", f"Others may read {key.name}")
    key.write_text("no key")
    says(finding("signing keys", sound), "warn", "cannot be read")
    says(finding("api key", sound), "ok", "no key file")
    for mode, outcome in ((0o600, "ok"), (0o640, "fail")):
        sound.api_key_path.touch()
        sound.api_key_path.chmod(mode)
        says(finding("api key", sound), outcome, "may read")


@pytest.mark.parametrize(
    ("owner", "ours", "mode", "outcome"),
    [
        (0, 10, 0o440, "ok"),
        (0, 10, 0o460, "fail"),
        (0, 10, 0o444, "fail"),
        (0, 0, 0o440, "fail"),
        (10, 10, 0o440, "fail"),
        (20, 10, 0o440, "fail"),
    ],
)
def test_only_keys_that_are_mounted_are_their_groups_to_read(
    sound: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    owner: int,
    ours: int,
    mode: int,
    outcome: str,
) -> None:
    """As of a secret of Kubernetes: the files are root's, and read by the group of the pod."""
    for directory in ("signing-keys", "master-keys"):
        for path in (tmp_path / directory).iterdir():
            path.chmod(mode)
    found = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        told = found(path, **options)
        values = (*told[:4], owner, *told[5:])
        return os.stat_result(values, {"st_mtime_ns": told.st_mtime_ns})

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "geteuid", lambda: ours)
    assert [finding(name, sound).outcome for name in ("signing keys", "master keys")] == [outcome] * 2


def test_a_hub_that_does_not_answer(sound: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    says(finding("hub", sound), "ok", "HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    says(finding("hub", sound), "warn", "does not answer")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    says(finding("hub", sound), "fail", "no address")


@pytest.mark.parametrize(
    ("cuda", "devices", "driver", "outcome", "words"),
    [
        (None, [], False, "ok", "on the processor"),
        (None, [], True, "fail", "built without CUDA"),
        ("12.8", [], True, "fail", "sees no card"),
        ("12.8", [["H100", 70 * 2**30, 80 * 2**30]], True, "ok", "H100 (70 of 80 GiB free)"),
    ],
)
def test_what_torch_says(
    cuda: str | None, devices: list[Any], driver: bool, outcome: str, words: str
) -> None:
    found = {"version": "2.13.0+cu128", "cuda": cuda, "devices": devices}
    says(workers.judge_torch(found, driver=driver), outcome, words)
    if devices:
        of_each = "Devices of each process of a worker: "
        says(workers.judge_torch(found, driver=driver), outcome, f"{of_each}all")
        shared = workers.judge_torch(found, driver=driver, groups=[("0", "1"), ("2",)])
        says(shared, outcome, f"{of_each}0 and 1; 2")
    says(workers.judge_torch(found | {"version": "2.0.1"}, driver=driver), "warn", "tested with 2.13.0")


def test_torch_is_asked_in_a_process_of_its_own(sound: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ASK_TORCH", "raise SystemExit('the driver is too old')")
    says(finding("gpu", sound), "fail", "the driver is too old")
    monkeypatch.setattr(workers, "_ASK_TORCH", "print('{}')")
    several = sound.model_copy(update={"devices": [("0",), ("1",)]})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    says(finding("gpu", several), "fail", "names device 1, and this machine shows 1")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    says(finding("gpu", sound), "ok", "needs none")


def test_workers_that_are_away_or_of_another_release(sound: Settings, database: psycopg.Connection) -> None:
    says(finding("workers", sound), "fail", "No worker of gpu or cpu")
    announce(database, "gpu", __version__, age="1 hour")
    says(finding("workers", sound), "fail", "No worker of gpu or cpu")
    announce(database, "cpu", __version__)
    says(finding("workers", sound), "fail", "No worker of gpu has")
    database.execute("UPDATE worker_classes SET last_seen_at = clock_timestamp()")
    says(finding("workers", sound), "ok", "gpu on gpu")
    announce(database, "gpu", "0.0.9")
    says(finding("workers", sound), "warn", "release 0.0.9")


def test_a_check_that_hangs_or_breaks_holds_up_no_other(sound: Settings) -> None:
    def hangs(_: Patient) -> Finding:
        time.sleep(5)
        return ok("Never said.")

    def breaks(_: Patient) -> Finding:
        raise ZeroDivisionError

    checks = [
        Check("hangs", hangs, seconds=0.1),
        Check("breaks", breaks),
        Check("sound", lambda _: ok("It is.")),
    ]
    began = time.monotonic()
    found = [each.finding for each in examine(Patient(sound), checks, lambda _: None)]
    assert time.monotonic() - began < 3
    assert [each.outcome for each in found] == ["fail", "fail", "ok"]
    assert ["within 0" in found[0].found, "ZeroDivisionError" in found[1].found] == [True, True]


def test_the_command_says_what_is_wrong_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_ASK_TORCH", "raise SystemExit('no torch in this test')")
    environment = {
        "MEMAUDIT_HOME": str(tmp_path),
        "MEMAUDIT_PORT": str(free_port()),
        "MEMAUDIT_MODEL_ROOTS": "/absent",
    }
    said = invoke("doctor", environment=environment)
    assert said.exit_code == 1
    assert (
        "FAIL model roots: /absent of MEMAUDIT_MODEL_ROOTS is no directory.\n     Correct it" in said.stdout
    )
    document = json.loads(invoke("doctor", "--json", environment=environment).stdout)
    assert document["ok"] is False
    assert [each["check"] for each in document["checks"]] == list(BY_NAME)
    assert {"check", "outcome", "found", "advice"} == document["checks"][0].keys()
    assert invoke("doctor", environment={"MEMAUDIT_PORT": "no port"}).exit_code == 2
