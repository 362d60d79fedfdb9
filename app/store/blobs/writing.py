"""Putting files into the store, and reading them back, from workers."""

import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from psycopg.errors import LockNotAvailable
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.errors import ArtifactCorrupt, BlobMissing, MemauditError, StorageUnavailable
from app.store.blobs.full import storage_full_named
from app.store.blobs.objects import objects_at, open_location
from app.store.blobs.reading import read_blob
from app.store.blobs.rows import (
    CHUNK_BYTES,
    POSTGRES,
    ChunkDigest,
    discard_damaged_blob,
    finish_blob,
    keep_blobs,
    refresh_blob,
    reserve_blob,
    wait_briefly_for_locks,
    write_chunk,
)

Progress = Callable[[int], None]

# How often blobs are kept from collection while one is written or verified.
KEEP_SECONDS: Final = 60.0


class FileChanged(MemauditError):
    """A file was written to while it was put into the store."""


class _WrittenMeanwhile(Exception):
    """Another writer was faster: the blob is there."""


class BlobStore:
    """The blobs of a deployment, for code that runs in threads of its own.

    Args:
        location: where new blobs go, as `Settings.artifact_store` has it. Older ones are read from where
            they are.
        sessions: of the database that knows all blobs.
    """

    def __init__(self, location: str, sessions: sessionmaker[Session]) -> None:
        self._location = location
        self._sessions = sessions
        open_location(location)

    def put_file(
        self, path: Path, on_progress: Progress = lambda _: None, *, keeping: Collection[str] = ()
    ) -> tuple[str, int]:
        """Put a file into the store, unless its bytes are there already. It is there whole, or not at all.

        Bytes that are there are read and verified before they are shared; damaged ones are written anew.
        It may take hours: no transaction is open meanwhile but for a moment at a time.

        Nothing is kept for long that no row refers to: see `keep`.

        Args:
            path: the file.
            on_progress: called with the bytes written so far, after each chunk; what it raises breaks the
                put off.
            keeping: blobs that were put before, to be kept until this one is put.

        Returns:
            The SHA-256 in lower-case hex and the size in bytes.

        Raises:
            StorageFull: there is no room.
            StorageUnavailable: the object store does not answer, or a worker that stopped holds the blob.
            FileChanged: the file was written to meanwhile.
            BlobMissing: this blob, or one of `keeping`, was collected meanwhile.
        """
        sha256, digests = _digest(path)
        size = sum(digest.size for digest in digests)
        with storage_full_named():
            if keeping:
                self.keep(keeping)
            with self._transaction() as session:
                written_at = reserve_blob(session, sha256, size, self._location)
            if written_at is not None and not self._is_intact(sha256, keeping, on_progress):
                with self._transaction() as session:
                    discard_damaged_blob(session, sha256, written_at, self._location)
                written_at = None
            if written_at is None:
                chunks = _unchanged_chunks(path, digests, on_progress)
                self._write(sha256, self._while_kept(chunks, sha256, keeping, unwritten=True), digests)
        on_progress(size)
        return sha256, size

    def keep(self, digests: Collection[str]) -> None:
        """Keep blobs that no row refers to yet from collection, for another hour.

        Raises:
            BlobMissing: one of them is not there.
        """
        with self._transaction() as session:
            keep_blobs(session, digests)

    def read(self, sha256: str) -> Iterator[bytes]:
        """All bytes of a blob, a verified chunk at a time; see `read_blob`."""
        return read_blob(self._sessions, sha256)

    def _is_intact(self, sha256: str, keeping: Collection[str], on_progress: Progress) -> bool:
        """Whether a blob is what its digests say, so that it can be shared."""
        try:
            for _ in self._while_kept(self.read(sha256), sha256, keeping, unwritten=False):
                on_progress(0)
        except ArtifactCorrupt:
            return False
        return True

    def _write(self, sha256: str, chunks: Iterator[bytes], digests: list[ChunkDigest]) -> None:
        try:
            if self._location == POSTGRES:
                for ordinal, (digest, chunk) in enumerate(zip(digests, chunks, strict=True)):
                    with self._transaction() as session:
                        if not write_chunk(session, sha256, ordinal, digest, chunk):
                            return
            else:
                size = sum(digest.size for digest in digests)
                objects_at(self._location).put(sha256, chunks, size)
        except _WrittenMeanwhile:
            return
        try:
            with self._transaction() as session:
                finish_blob(session, sha256, self._location, digests)
        except BlobMissing:
            # Whether the object came before or after its collection is unknown: let it be collected again.
            with self._transaction() as session:
                reserve_blob(session, sha256, sum(digest.size for digest in digests), self._location)
            raise

    def _while_kept(
        self, chunks: Iterator[bytes], sha256: str, keeping: Collection[str], *, unwritten: bool
    ) -> Iterator[bytes]:
        """Chunks of a blob; while they are gone through, neither it nor those of `keeping` are collected.

        Raises:
            _WrittenMeanwhile: the blob was said to be unwritten, and another writer has written it.
            BlobMissing: one of them was collected.
        """
        keep_at = time.monotonic() + KEEP_SECONDS
        for chunk in chunks:
            if time.monotonic() >= keep_at:
                keep_at = time.monotonic() + KEEP_SECONDS
                if keeping:
                    self.keep(keeping)
                with self._transaction() as session:
                    written = refresh_blob(session, sha256)
                if written and unwritten:
                    raise _WrittenMeanwhile
            yield chunk

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """A transaction of some milliseconds."""
        try:
            with self._sessions.begin() as session:
                wait_briefly_for_locks(session)
                yield session
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise StorageUnavailable("A blob is held by another worker that has stopped.") from error
            raise


def _digest(path: Path) -> tuple[str, list[ChunkDigest]]:
    """The SHA-256 of a file and of each of its chunks."""
    whole = hashlib.sha256()
    digests = []
    for chunk in _chunks(path):
        whole.update(chunk)
        digests.append(ChunkDigest(len(chunk), hashlib.sha256(chunk).hexdigest()))
    return whole.hexdigest(), digests


def _unchanged_chunks(path: Path, digests: list[ChunkDigest], on_progress: Progress) -> Iterator[bytes]:
    """The chunks of a file, each of which is what it was when it was digested."""
    done = 0
    for digest, chunk in zip(digests, _chunks(path), strict=False):
        if hashlib.sha256(chunk).hexdigest() != digest.sha256:
            break
        on_progress(done)
        done += digest.size
        yield chunk
    if done != sum(digest.size for digest in digests):
        raise FileChanged("A file was written to while it was put into the store.")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
