"""Putting files into the store, and reading them back, from workers."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from app.blob_store.full import storage_full_named
from app.blob_store.objects import POSTGRES, objects_at, open_location
from app.blob_store.reading import read_blob
from app.errors import ArtifactCorrupt, MemauditError
from app.store.blobs import (
    CHUNK_BYTES,
    ChunkDigest,
    add_chunk,
    finish_blob,
    keep_blobs,
    lock_unwritten_blob,
    reserve_blob,
    unwrite_blob,
)

Progress = Callable[[int], None]


class FileChanged(MemauditError):
    """A file was written to while it was put into the store."""


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

    def put_file(self, path: Path, on_progress: Progress = lambda _: None) -> tuple[str, int]:
        """Put a file into the store, unless its bytes are there already. It is there whole, or not at all.

        Bytes that are there are read and verified before they are shared; damaged ones are written anew.

        Nothing is kept for long that no row refers to: see `keep`.

        Args:
            path: the file.
            on_progress: called with the bytes written so far, after each chunk; what it raises breaks the
                put off.

        Returns:
            The SHA-256 in lower-case hex and the size in bytes.

        Raises:
            StorageFull: there is no room.
            StorageUnavailable: the object store does not answer.
            FileChanged: the file was written to meanwhile.
        """
        sha256, digests = _digest(path)
        size = sum(digest.size for digest in digests)
        with storage_full_named():
            with self._sessions.begin() as session:
                written = reserve_blob(session, sha256, size, self._location)
            if written and not self._is_intact(sha256):
                with self._sessions.begin() as session:
                    unwrite_blob(session, sha256)
                written = False
            if not written:
                self._write(sha256, _unchanged_chunks(path, digests, on_progress), digests)
        on_progress(size)
        return sha256, size

    def keep(self, digests: Collection[str]) -> None:
        """Keep blobs that no row refers to yet from collection, for another hour.

        Raises:
            BlobMissing: one of them is not there.
        """
        with self._sessions.begin() as session:
            keep_blobs(session, digests)

    def read(self, sha256: str) -> Iterator[bytes]:
        """All bytes of a blob, a verified chunk at a time; see `read_blob`."""
        return read_blob(self._sessions, sha256)

    def _is_intact(self, sha256: str) -> bool:
        """Whether a blob is what its digests say, so that it can be shared."""
        try:
            for _ in self.read(sha256):
                pass
        except ArtifactCorrupt:
            return False
        return True

    def _write(self, sha256: str, chunks: Iterator[bytes], digests: list[ChunkDigest]) -> None:
        in_database = self._location == POSTGRES
        with self._sessions.begin() as session:
            blob = lock_unwritten_blob(session, sha256, self._location)
            if blob is None:
                return
            if not in_database:
                objects_at(self._location).put(sha256, chunks, CHUNK_BYTES)
            for ordinal, digest in enumerate(digests):
                add_chunk(session, sha256, ordinal, digest, next(chunks) if in_database else None)
            finish_blob(session, blob)


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
