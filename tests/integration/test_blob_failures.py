"""A store that is full, away or wrongly named: said plainly, and a retry succeeds."""

import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.errors import StorageFull, StorageUnavailable
from app.settings import Settings
from app.store.blobs.full import is_storage_full
from app.store.blobs.rows import CHUNK_BYTES
from app.store.blobs.writing import BlobStore
from app.store.jobs.claiming import claim
from tests.artifacts import random_file
from tests.bucket_server import Bucket
from tests.integration.rows import add_audit_rows, add_shard, add_tenant
from workers.running import finishing
from workers.running.runtime import Runtime


def refuse_chunks(database: psycopg.Connection, table: str = "blob_chunks") -> None:
    """Let the database fail as it does when its disk is full."""
    database.execute(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
    )
    database.execute(f"CREATE TRIGGER no_room BEFORE INSERT ON {table} EXECUTE FUNCTION no_room()")


def test_a_full_database_says_so_and_a_retry_succeeds(
    sessions: sessionmaker[Session], database: psycopg.Connection, tmp_path: Path
) -> None:
    blobs = BlobStore("postgres:", sessions)
    path = random_file(tmp_path / "file", 100)
    refuse_chunks(database)
    with pytest.raises(StorageFull) as raised:
        blobs.put_file(path)
    assert raised.value.problem()["type"].endswith("/storage-full")
    assert not raised.value.retryable
    database.execute("DROP TRIGGER no_room ON blob_chunks")
    sha256, _ = blobs.put_file(path)
    assert b"".join(blobs.read(sha256)) == path.read_bytes()


def test_a_full_disk_says_so_and_a_retry_succeeds(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", os.fspath(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can be mounted by root only")
    try:
        blobs = BlobStore(f"file://{disk}", sessions)
        path = random_file(tmp_path / "file", 5 * 2**20)
        with pytest.raises(StorageFull):
            blobs.put_file(path)
        assert [file for file in disk.rglob("*") if file.is_file()] == []
        subprocess.run([*mount[:3], "-o", "remount,size=16m", os.fspath(disk)], check=True)
        sha256, _ = blobs.put_file(path)
        assert b"".join(blobs.read(sha256)) == path.read_bytes()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_bucket_says_so_and_one_that_is_away_too(
    bucket_server: Bucket, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    blobs = BlobStore("s3://bucket", sessions)
    path = random_file(tmp_path / "file", CHUNK_BYTES + 1)
    for code, failure in (("QuotaExceeded", StorageFull), ("AccessDenied", StorageUnavailable)):
        bucket_server.refusal = code
        with pytest.raises(failure):
            blobs.put_file(path)
        assert bucket_server.objects == {}
    bucket_server.refusal = None
    sha256, _ = blobs.put_file(path)
    assert b"".join(blobs.read(sha256)) == path.read_bytes()


@pytest.mark.parametrize(
    "location",
    [
        "",
        "postgres",
        "file:relative",
        "file://host/dir",
        "file:///",
        "s3:bucket",
        "s3://",
        "gs://b",
        "s3://b!",
    ],
)
def test_a_store_that_makes_no_sense_is_refused_at_the_start(location: str) -> None:
    with pytest.raises(ValidationError, match="give postgres:, file:///directory or s3://bucket/prefix"):
        Settings(artifact_store=location)


def test_what_counts_as_full() -> None:
    assert is_storage_full(OSError(errno.ENOSPC, "no space"))
    assert is_storage_full(OSError(errno.EDQUOT, "quota"))
    assert is_storage_full(OSError("Generic LocalFileSystem error: No space left on device (os error 28)"))
    assert not is_storage_full(OSError(errno.EIO, "broken"))
    assert not is_storage_full(psycopg.OperationalError("server closed the connection"))
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = OSError(errno.ENOSPC, "no space")
    assert is_storage_full(wrapped)


def test_a_full_database_ends_a_job_at_once(
    sessions: sessionmaker[Session], settings: Settings, database: psycopg.Connection
) -> None:
    """The driver calls a full disk an operational error, as it does a database that is away."""
    with sessions.begin() as session:
        add_shard(session, add_audit_rows(session, add_tenant(session)))
    with sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="here", lease_seconds=60, loaded=[])
    assert lease is not None
    refuse_chunks(database, "blobs")
    tries = []

    def write(session: Session) -> None:
        tries.append(1)
        session.execute(
            text("INSERT INTO blobs (sha256, size, chunk_bytes, location) VALUES ('a', 1, 1, 'postgres:')")
        )

    runtime = cast(Runtime, SimpleNamespace(sessions=sessions, settings=settings))
    with pytest.raises(StorageFull):
        finishing.finish(runtime, lease, write)
    assert len(tries) == 1
    database.execute("DROP TRIGGER no_room ON blobs")
    finishing.finish(runtime, lease, write)
    assert len(tries) == 2
