"""Blobs on a real Postgres and a real directory: whole or absent, verified, stored once, collected safely."""

import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.errors import ArtifactCorrupt, BlobMissing
from app.settings import Settings
from app.store.artifacts import StoredFile, add_artifact, delete_artifact
from app.store.blobs.collecting import collect_garbage
from app.store.blobs.garbage import condemn_blobs
from app.store.blobs.rows import CHUNK_BYTES
from app.store.blobs.writing import BlobStore, FileChanged
from app.store.core.sessions import async_engine
from app.store.core.unit_of_work import Store
from tests.artifacts import random_file
from tests.bucket_server import Bucket
from tests.integration.rows import add_tenant

OLD = timedelta(0)


@pytest.fixture(params=["postgres", "file", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("bucket_server")
    return {
        "postgres": "postgres:",
        "file": f"file://{tmp_path}/blobs",
        "s3": "s3://bucket/some/prefix",
    }[request.param]


@pytest.fixture
def blobs(location: str, sessions: sessionmaker[Session]) -> BlobStore:
    return BlobStore(location, sessions)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    engine = async_engine(settings.require_database_url(), pool_size=2)
    yield Store(engine)
    await engine.dispose()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_what_was_put_is_read(
    blobs: BlobStore, database: psycopg.Connection, tmp_path: Path, size: int
) -> None:
    path = random_file(tmp_path / "file", size)
    reported: list[int] = []
    assert blobs.put_file(path, reported.append) == (digest(path), size)
    assert b"".join(blobs.read(digest(path))) == path.read_bytes()
    assert reported[-1] == size
    assert reported == sorted(reported)
    chunks = database.execute("SELECT sum(size), count(*) FROM blob_chunks").fetchone()
    assert chunks == (size or None, -(-size // CHUNK_BYTES))


def test_the_same_bytes_are_stored_once(
    blobs: BlobStore, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = random_file(tmp_path / "file", 1000)
    (tmp_path / "copy").write_bytes(path.read_bytes())
    first = blobs.put_file(path)
    put_at = database.execute("SELECT last_put_at FROM blobs").fetchone()
    assert blobs.put_file(tmp_path / "copy") == first
    assert database.execute("SELECT count(*) FROM blobs").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM blob_chunks").fetchone() == (1,)
    again = database.execute("SELECT last_put_at FROM blobs").fetchone()
    assert put_at is not None
    assert again is not None
    assert again > put_at


@pytest.fixture
def objects(request: pytest.FixtureRequest, location: str) -> dict[str, bytes]:
    """What the bucket holds, if the blobs are in one."""
    server: Bucket | None = request.getfixturevalue("bucket_server") if location[:2] == "s3" else None
    return {} if server is None else server.objects


def flip_a_byte(
    database: psycopg.Connection, location: str, objects: dict[str, bytes], sha256: str, ordinal: int
) -> None:
    place = ordinal * CHUNK_BYTES + 9
    if location == "postgres:":
        database.execute(
            "UPDATE blob_chunks SET data = set_byte(data, 9, get_byte(data, 9) # 1) "
            "WHERE sha256 = %s AND ordinal = %s",
            (sha256, ordinal),
        )
        return
    if objects:
        (name,) = objects
        whole = objects[name]
        objects[name] = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        return
    path = Path(location.removeprefix("file://")) / sha256[:2] / sha256
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_never_given_out(
    blobs: BlobStore,
    location: str,
    objects: dict[str, bytes],
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    path = random_file(tmp_path / "file", 2 * CHUNK_BYTES)
    sha256, _ = blobs.put_file(path)
    flip_a_byte(database, location, objects, sha256, 1)
    chunks = blobs.read(sha256)
    assert next(chunks) == path.read_bytes()[:CHUNK_BYTES]
    with pytest.raises(ArtifactCorrupt):
        next(chunks)


def test_a_damaged_blob_is_written_anew_when_it_is_put_again(
    blobs: BlobStore,
    location: str,
    objects: dict[str, bytes],
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    path = random_file(tmp_path / "file", 2 * CHUNK_BYTES)
    sha256, _ = blobs.put_file(path)
    flip_a_byte(database, location, objects, sha256, 1)
    assert blobs.put_file(path)[0] == sha256
    assert b"".join(blobs.read(sha256)) == path.read_bytes()


def test_bytes_that_are_gone_are_corrupt(
    blobs: BlobStore,
    location: str,
    objects: dict[str, bytes],
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    sha256, _ = blobs.put_file(random_file(tmp_path / "file", 10))
    if location == "postgres:":
        database.execute("DELETE FROM blob_chunks")
    elif objects:
        assert list(objects) == [f"/bucket/some/prefix/{sha256[:2]}/{sha256}"]
        objects.clear()
    else:
        (tmp_path / "blobs" / sha256[:2] / sha256).unlink()
    with pytest.raises(ArtifactCorrupt):
        list(blobs.read(sha256))


async def test_a_put_that_is_broken_off_leaves_nothing_that_counts(
    blobs: BlobStore, store: Store, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = random_file(tmp_path / "file", 3 * CHUNK_BYTES)

    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        if done:
            raise Stop

    with pytest.raises(Stop):
        blobs.put_file(path, stop)
    assert database.execute("SELECT count(*) FROM blobs WHERE written_at IS NOT NULL").fetchone() == (0,)
    assert [file for file in (tmp_path / "blobs").rglob("*") if file.is_file()] == []
    with pytest.raises(BlobMissing):
        blobs.keep([digest(path)])
    assert await collect_garbage(store) == 0
    assert await collect_garbage(store, older_than=OLD) == 1
    assert database.execute("SELECT count(*) FROM blob_chunks").fetchone() == (0,)
    blobs.put_file(path)
    assert b"".join(blobs.read(digest(path))) == path.read_bytes()


def test_a_file_that_changes_meanwhile_is_not_stored(
    blobs: BlobStore, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = random_file(tmp_path / "file", 2 * CHUNK_BYTES)

    def change(_: int) -> None:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(bytes([path.read_bytes()[-1] ^ 1]))

    with pytest.raises(FileChanged):
        blobs.put_file(path, change)
    assert database.execute("SELECT count(*) FROM blobs WHERE written_at IS NOT NULL").fetchone() == (0,)


def test_blobs_are_read_from_where_they_were_put(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    path = random_file(tmp_path / "file", 10)
    sha256, _ = BlobStore(f"file://{tmp_path}/old", sessions).put_file(path)
    assert b"".join(BlobStore("postgres:", sessions).read(sha256)) == path.read_bytes()


async def test_collection_leaves_what_is_referenced_and_what_is_fresh(
    blobs: BlobStore,
    store: Store,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    shared, own, loose = (random_file(tmp_path / name, 100) for name in ("shared", "own", "loose"))
    stored = {path.name: StoredFile(path.name, *blobs.put_file(path)) for path in (shared, own, loose)}
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        add_artifact(session, tenant_id, "one", [stored["shared"]])
        two = add_artifact(session, tenant_id, "two", [stored["shared"], stored["own"]])
    assert await collect_garbage(store) == 0
    assert await collect_garbage(store, older_than=OLD) == 1
    assert left(database) == {digest(shared), digest(own)}
    with sessions.begin() as session:
        delete_artifact(session, tenant_id, two.id)
    assert await collect_garbage(store, older_than=OLD) == 1
    assert left(database) == {digest(shared)}
    files = [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert files in ([], [digest(shared)])
    assert b"".join(blobs.read(digest(shared))) == shared.read_bytes()


def left(database: psycopg.Connection) -> set[str]:
    return {sha256 for (sha256,) in database.execute("SELECT sha256 FROM blobs").fetchall()}


async def test_a_condemned_blob_is_put_anew_and_cannot_be_referred_to(
    blobs: BlobStore, store: Store, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    path = random_file(tmp_path / "file", 100)
    stored = StoredFile("file", *blobs.put_file(path))
    assert len(await store.run(condemn_blobs, older_than=OLD, limit=10)) == 1
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        with pytest.raises(BlobMissing):
            add_artifact(session, tenant_id, "early", [stored])
    blobs.put_file(path)
    assert await collect_garbage(store) == 0
    with sessions.begin() as session:
        add_artifact(session, tenant_id, "late", [stored])
    assert b"".join(blobs.read(stored.sha256)) == path.read_bytes()


def test_chunks_are_not_compressed(database: psycopg.Connection) -> None:
    row = database.execute(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'blob_chunks'::regclass AND attname = 'data'"
    ).fetchone()
    assert row in {("e",), (b"e",)}
