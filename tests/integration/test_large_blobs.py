"""Blobs that take long to write: no transaction waits, two writers both end, nothing is collected early.

"Long" is made short here: idle transactions are ended after a moment, or rows are aged while a file is put.
"""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.errors import BlobMissing
from app.settings import Settings
from app.store.artifacts import add_artifact
from app.store.blobs import writing
from app.store.blobs.collecting import KEPT_UNREFERENCED, collect_garbage
from app.store.blobs.objects import objects_at
from app.store.blobs.rows import CHUNK_BYTES
from app.store.blobs.writing import BlobStore
from app.store.core import sessions as store_sessions
from app.store.core.sessions import async_engine, sync_engine, sync_sessions
from app.store.core.unit_of_work import Store
from tests.artifacts import random_file
from tests.bucket_server import Bucket
from tests.integration.rows import add_tenant
from tests.integration.test_text_sets_memory import MEBIBYTE, PeakMemory
from workers.models.artifact_files import store_directory

PLACES = ("postgres", "file", "s3")
OPEN_TRANSACTIONS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
)


@pytest.fixture(params=PLACES)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("bucket_server")
    return {"postgres": "postgres:", "file": f"file://{tmp_path}/blobs", "s3": "s3://bucket"}[request.param]


@pytest.fixture
def collect(settings: Settings) -> Callable[..., int]:
    """The collector, as another process runs it."""

    async def run(older_than: timedelta) -> int:
        engine = async_engine(settings.require_database_url(), pool_size=2)
        try:
            return await collect_garbage(Store(engine), older_than=older_than)
        finally:
            await engine.dispose()

    def collect(older_than: timedelta = KEPT_UNREFERENCED) -> int:
        return asyncio.run(run(older_than))

    return collect


def is_stored_whole(blobs: BlobStore, path: Path) -> bool:
    content = path.read_bytes()
    return b"".join(blobs.read(sha256(content).hexdigest())) == content


def test_no_transaction_is_open_while_bytes_are_written(
    location: str, sessions: sessionmaker[Session], database: psycopg.Connection, tmp_path: Path
) -> None:
    blobs = BlobStore(location, sessions)
    path = random_file(tmp_path / "file", 3 * CHUNK_BYTES)
    found: list[object] = []
    for _ in ("written", "verified"):
        found.clear()
        blobs.put_file(path, lambda _: found.append(database.execute(OPEN_TRANSACTIONS).fetchone()))
        assert found == [(0,)] * 4
    assert is_stored_whole(blobs, path)


def test_a_slow_bucket_outlasts_the_limit_of_idle_transactions(
    bucket_server: Bucket, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_sessions, "_WORKER_OPTIONS", "-c idle_in_transaction_session_timeout=250ms")
    bucket_server.part_seconds = 0.2
    engine = sync_engine(settings.require_database_url())
    blobs = BlobStore("s3://bucket", sync_sessions(engine))
    path = random_file(tmp_path / "file", 5 * CHUNK_BYTES)
    blobs.put_file(path)
    assert is_stored_whole(blobs, path)
    engine.dispose()


def test_two_writers_of_one_blob_both_end(
    location: str, sessions: sessionmaker[Session], database: psycopg.Connection, tmp_path: Path
) -> None:
    path = random_file(tmp_path / "file", 3 * CHUNK_BYTES)
    both_write = threading.Barrier(2, timeout=10)

    def put() -> tuple[str, int]:
        def meet(done: int) -> None:
            if done == CHUNK_BYTES:
                both_write.wait()

        return BlobStore(location, sessions).put_file(path, meet)

    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(put) for _ in range(2))
        assert first.result(20) == second.result(20)
    assert is_stored_whole(BlobStore(location, sessions), path)
    assert database.execute("SELECT count(*) FROM blob_chunks").fetchone() == (3,)


def test_a_writer_gives_way_to_one_that_was_faster(
    location: str,
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(writing, "KEEP_SECONDS", 0.0)
    blobs = BlobStore(location, sessions)
    path = random_file(tmp_path / "file", 4 * CHUNK_BYTES)
    reported: list[int] = []

    def overtake(done: int) -> None:
        reported.append(done)
        if done == CHUNK_BYTES:
            with ThreadPoolExecutor(1) as threads:
                threads.submit(BlobStore(location, sessions).put_file, path).result(20)

    assert blobs.put_file(path, overtake)[1] == 4 * CHUNK_BYTES
    assert reported == [0, CHUNK_BYTES, 4 * CHUNK_BYTES]
    assert is_stored_whole(blobs, path)
    if location == "s3://bucket":
        assert request.getfixturevalue("bucket_server").parts == {}


def test_what_is_being_put_is_not_collected(
    location: str,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    collect: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each chunk takes 50 minutes, and the collector comes after each: five hours for three files."""
    monkeypatch.setattr(writing, "KEEP_SECONDS", 0.0)
    directory = tmp_path / "files"
    directory.mkdir()
    for name in ("a", "b", "c"):
        random_file(directory / name, 2 * CHUNK_BYTES)
    database.execute("SET lock_timeout = '5s'")

    def age(*_: int) -> None:
        database.execute("UPDATE blobs SET last_put_at = last_put_at - interval '50 minutes'")
        assert collect() == 0

    blobs = BlobStore(location, sessions)
    files = store_directory(blobs, directory, age)
    verify = {"on_progress": lambda done: None if done else age(), "keeping": {file.sha256 for file in files}}
    blobs.put_file(directory / "a", **verify)
    with sessions.begin() as session:
        add_artifact(session, add_tenant(session), "slow", files)
    assert collect(timedelta(0)) == 0
    assert all(is_stored_whole(blobs, directory / file.path) for file in files)


def test_a_writer_that_was_taken_for_dead_puts_again(
    location: str,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    collect: Callable[..., int],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """It was stopped for so long that its blob was collected; what it wrote all the same is collected too."""
    database.execute("SET lock_timeout = '5s'")
    blobs = BlobStore(location, sessions)
    path = random_file(tmp_path / "file", 3 * CHUNK_BYTES)
    collected = []

    def stop(done: int) -> None:
        if done == CHUNK_BYTES:
            collected.append(collect(timedelta(0)))

    with pytest.raises(BlobMissing):
        blobs.put_file(path, stop)
    assert collected == [1]
    assert collect(timedelta(0)) == (0 if location == "postgres:" else 1)
    assert database.execute("SELECT count(*) FROM blobs").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM blob_chunks").fetchone() == (0,)
    assert [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()] == []
    if location == "s3://bucket":
        assert request.getfixturevalue("bucket_server").objects == {}
    blobs.put_file(path)
    assert is_stored_whole(blobs, path)


PUT_AND_HANG = """
import sys, time
from pathlib import Path
from app.store.blobs.writing import BlobStore
from app.store.core.sessions import sync_engine, sync_sessions

def hang(done):
    if done:
        print("half", flush=True)
        time.sleep(600)

url, location, path = sys.argv[1:]
BlobStore(location, sync_sessions(sync_engine(url))).put_file(Path(path), hang)
"""


def test_a_writer_that_is_killed_leaves_nothing_half(
    location: str,
    settings: Settings,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    collect: Callable[..., int],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    path = random_file(tmp_path / "file", 3 * CHUNK_BYTES)
    command = [sys.executable, "-c", PUT_AND_HANG, settings.require_database_url(), location, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        writer.send_signal(signal.SIGKILL)
    blobs = BlobStore(location, sessions)
    with pytest.raises(BlobMissing):
        blobs.keep([sha256(path.read_bytes()).hexdigest()])
    if location == "s3://bucket":
        assert request.getfixturevalue("bucket_server").objects == {}
    blobs.put_file(path)
    assert is_stored_whole(blobs, path)
    if location.startswith("file"):
        names = {file.name.partition("#")[1] for file in (tmp_path / "blobs").rglob("*") if file.is_file()}
        assert names == {"", "#"}
        objects_at(location).delete_unfinished(older_than=timedelta(hours=1))
        assert len([file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]) == 2
        objects_at(location).delete_unfinished(older_than=timedelta(0))
        assert is_stored_whole(blobs, path)
    assert collect(timedelta(0)) == 1
    assert database.execute("SELECT count(*) FROM blob_chunks").fetchone() == (0,)
    assert [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()] == []


def test_memory_holds_a_few_parts(
    bucket_server: Bucket, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    bucket_server.forgetful = True
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(400 * MEBIBYTE)
    blobs = BlobStore("s3://bucket", sessions)
    with PeakMemory(psutil.Process()) as memory:
        blobs.put_file(path)
    assert memory.growth < 100 * MEBIBYTE
