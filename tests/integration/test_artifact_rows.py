"""What makes an artifact: names, paths, stored files; and what two of them share."""

import hashlib
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.errors import ArtifactNameTaken, BlobMissing
from app.settings import Settings
from app.store.artifacts import StoredFile, add_artifact, is_file_path
from tests.artifacts import make_artifact

SMALL = b"0123456789"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_names_are_a_tenants_own_and_free_again_after_deletion(
    editor: httpx.AsyncClient, settings: Settings, artifact: str, artifact_directory: Path
) -> None:
    url = settings.require_database_url()
    with pytest.raises(ArtifactNameTaken):
        make_artifact(url, artifact_directory)
    make_artifact(url, artifact_directory, tenant="other")
    await editor.delete(f"/v1/artifacts/{artifact}")
    make_artifact(url, artifact_directory)


def test_only_stored_files_with_plain_names_make_an_artifact(
    sessions: sessionmaker[Session], database: psycopg.Connection, artifact: str
) -> None:
    row = database.execute("SELECT tenant_id FROM artifacts").fetchone()
    assert row is not None
    here = StoredFile("file", sha256(SMALL), len(SMALL))

    def add(name: str, *files: StoredFile) -> None:
        with sessions.begin() as session:
            add_artifact(session, row[0], name, files)

    with pytest.raises(BlobMissing):
        add("new", StoredFile("file", "0" * 64, 5))
    for name in ("", "a/b", "a b", ".a", "x" * 97, "ü", "a\n", "a--b", "a..b", "a."):
        with pytest.raises(ValueError, match="plain"):
            add(name, here)
    for files in ((), (here, here)):
        with pytest.raises(ValueError, match="at least one"):
            add("new", *files)


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a//b", "a/", ".git/a", "a\\b", "a\n", "a\0", "x" * 201]
)
def test_paths_that_no_file_has(path: str) -> None:
    assert not is_file_path(path)


def test_a_file_that_two_artifacts_share_is_stored_once(
    settings: Settings, database: psycopg.Connection, artifact_directory: Path, artifact: str
) -> None:
    (artifact_directory / "sub" / "large.bin").write_bytes(b"changed")
    make_artifact(settings.require_database_url(), artifact_directory, name="second")
    assert database.execute("SELECT count(*) FROM artifact_files").fetchone() == (6,)
    assert database.execute("SELECT count(*) FROM blobs").fetchone() == (4,)
