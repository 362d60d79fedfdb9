"""Directories of files to and from artifacts."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.orm import Session, sessionmaker

from app.errors import ArtifactCorrupt, LanguageModelRejected, NotFound
from app.store.artifacts import ArtifactFile, StoredFile, get_artifact, list_files
from app.store.blobs.full import storage_full_named
from app.store.blobs.writing import BlobStore

log = structlog.get_logger()

Progress = Callable[[int, int], None]


def store_directory(
    blobs: BlobStore, directory: Path, on_progress: Progress = lambda _done, _total: None
) -> list[StoredFile]:
    """Put every file of a directory into the store. Files that are there already are not written again.

    Args:
        blobs: the store.
        directory: its files, those of its subdirectories included.
        on_progress: called with the bytes done and the total; what it raises breaks off.

    Returns:
        The files by path, for `add_artifact`. They are kept for an hour without it.

    Raises:
        StorageFull: there is no room.
        StorageUnavailable: the object store does not answer.
        BlobMissing: a file was collected again before the last one was stored.
    """
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in paths)
    stored: list[StoredFile] = []
    done = 0
    for path in paths:
        sha256, size = blobs.put_file(
            path,
            lambda part, before=done: on_progress(before + part, total),  # type: ignore[misc]
            keeping={file.sha256 for file in stored},
        )
        stored.append(StoredFile(path.relative_to(directory).as_posix(), sha256, size))
        done += size
    return stored


class ArtifactCache:
    """Artifacts as directories on this worker's disk, each under the digest of its manifest.

    Args:
        directory: where they are kept.
        sessions: of the database.
        blobs: where their bytes come from.
        kept: how long one stays that nobody uses.
    """

    def __init__(
        self, directory: Path, sessions: sessionmaker[Session], blobs: BlobStore, *, kept: timedelta
    ) -> None:
        self._directory = directory
        self._kept = kept
        self._sessions = sessions
        self._blobs = blobs

    def materialize(self, tenant_id: UUID, artifact_id: UUID) -> tuple[Path, str]:
        """The directory with an artifact's files, every byte of which was verified just now.

        Returns:
            The directory and the artifact's commit.

        Raises:
            LanguageModelRejected: there is no such artifact.
            ArtifactCorrupt: its bytes in the store do not match their digests.
            StorageFull: this disk has no room for it.
        """
        with self._sessions() as session:
            try:
                artifact = get_artifact(session, tenant_id, artifact_id)
            except NotFound:
                raise LanguageModelRejected("The artifact was deleted.") from None
            files = list_files(session, artifact.id)
        directory = self._directory / artifact.manifest_sha256
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._trim(but=directory)
        with storage_full_named(), self._alone(directory):
            if not _is_whole(directory, files):
                self._fetch(files, directory)
            os.utime(directory)
        return directory, artifact.commit

    @contextmanager
    def _alone(self, directory: Path, *, wait: bool = True) -> Iterator[None]:
        """Keep other workers of this disk from fetching or deleting the same artifact meanwhile.

        Raises:
            BlockingIOError: another one does, and `wait` is false.
        """
        with directory.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def _trim(self, *, but: Path) -> None:
        """Delete what was not used for long, and what a killed process left half fetched of that.

        Whoever is given a directory has `kept` to read it: it is marked as used under the same lock.
        """
        oldest = time.time() - self._kept.total_seconds()
        for directory in self._directory.iterdir():
            if directory == but or not directory.is_dir():
                continue
            try:
                with self._alone(directory, wait=False):
                    if directory.stat().st_mtime < oldest:
                        shutil.rmtree(directory)
            except BlockingIOError:
                continue
            except OSError as error:
                log.warning("artifact_cache_not_trimmed", error=type(error).__name__)

    def _fetch(self, files: list[ArtifactFile], directory: Path) -> None:
        fresh = directory.with_suffix(".fetching")
        shutil.rmtree(fresh, ignore_errors=True)
        for file in files:
            self._fetch_file(file, fresh / file.path)
        shutil.rmtree(directory, ignore_errors=True)
        fresh.rename(directory)
        if not _is_whole(directory, files):
            raise ArtifactCorrupt("The artifact's files on the worker's disk do not match their digests.")

    def _fetch_file(self, file: ArtifactFile, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as output:
            for chunk in self._blobs.read(file.sha256):
                output.write(chunk)


def _is_whole(directory: Path, files: list[ArtifactFile]) -> bool:
    """Whether a directory holds just these files with these bytes."""
    present = {
        os.path.relpath(Path(parent) / name, directory)
        for parent, _, names in os.walk(directory)
        for name in names
    }
    return present == {file.path for file in files} and all(
        _sha256(directory / file.path) == file.sha256 for file in files
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
