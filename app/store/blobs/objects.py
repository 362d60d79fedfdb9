"""Blobs as the objects of a directory (`file:///…`) or of a bucket (`s3://…`)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from app.errors import ArtifactCorrupt, StorageUnavailable
from app.store.blobs.full import storage_full_named
from app.store.blobs.rows import CHUNK_BYTES, POSTGRES

_FILE_SCHEME: Final = "file://"
# Parts under way at once; each is held in memory.
_PARTS_AT_ONCE: Final = 2
# A bucket that does not answer is given up after this; a job is tried again later.
_RETRIES: Final = 4
_RETRY_TIME: Final = timedelta(seconds=30)
# A part has this long to arrive: two at a time need 140 kB/s.
_REQUEST_TIME: Final = "2m"
# A bucket takes no more parts than this for one object.
_MAX_PARTS: Final = 10_000
# How the parts of a file that is not whole yet are called.
_UNFINISHED: Final = "*/*#*"


class BlobObjects:
    """The blobs in an object store. S3's region and credentials come from `AWS_*`, as everywhere.

    Args:
        url: `file:///directory`, which is made if missing, or `s3://bucket/prefix`.
    """

    def __init__(self, url: str) -> None:
        self._directory = Path(url.removeprefix(_FILE_SCHEME)) if url.startswith(_FILE_SCHEME) else None
        self._store: ObjectStore
        with _failures_named():
            if self._directory is None:
                # Given as an option, it would put aside the options that come from the environment.
                os.environ.setdefault("AWS_TIMEOUT", _REQUEST_TIME)
                self._store = S3Store.from_url(
                    url, retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIME}
                )
            else:
                self._store = LocalStore(self._directory, mkdir=True)

    def put(self, sha256: str, chunks: Iterator[bytes], size: int) -> None:
        """Write a blob of this size in parts. It is whole afterwards or not there.

        Raises:
            StorageFull, StorageUnavailable: nothing was written.
        """
        name = _name(sha256)
        part_bytes = CHUNK_BYTES * max(1, -(-size // (CHUNK_BYTES * _MAX_PARTS)))
        try:
            with _failures_named():
                obstore.put(self._store, name, chunks, chunk_size=part_bytes, max_concurrency=_PARTS_AT_ONCE)
                if self._directory is not None:
                    _flush(self._directory / name)
        except FileNotFoundError as error:
            raise StorageUnavailable(
                "A file of the artifact store was deleted while it was written."
            ) from error

    def get(self, sha256: str, start: int, size: int) -> bytes:
        """A piece of a blob.

        Raises:
            ArtifactCorrupt: the object is missing or ends too early.
            StorageUnavailable: the store does not answer.
        """
        try:
            with _failures_named():
                return obstore.get_range(self._store, _name(sha256), start=start, length=size).to_bytes()
        except FileNotFoundError:
            raise ArtifactCorrupt("Bytes of the artifact are missing from the store.") from None

    def delete(self, sha256: str) -> None:
        """Delete a blob, if it is there.

        Raises:
            StorageUnavailable: the store does not answer.
        """
        try:
            with _failures_named():
                obstore.delete(self._store, _name(sha256))
        except FileNotFoundError:
            return

    def delete_unfinished(self, *, older_than: timedelta) -> None:
        """Delete what killed writers left of files in a directory. A bucket's own rules do this for a bucket.

        Raises:
            StorageUnavailable: the directory cannot be read.
        """
        if self._directory is None:
            return
        oldest = time.time() - older_than.total_seconds()
        with _failures_named():
            for path in self._directory.glob(_UNFINISHED):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()


def open_location(location: str) -> None:
    """Open the place of new blobs, so that one that cannot be used is known at once.

    Raises:
        StorageUnavailable: the directory cannot be made, or the settings of the bucket are wrong.
    """
    if location != POSTGRES:
        objects_at(location)


@lru_cache(maxsize=8)
def objects_at(url: str) -> BlobObjects:
    """The blobs at a URL, opened once."""
    return BlobObjects(url)


def _name(sha256: str) -> str:
    """In directories of a few hundred, so that none grows large."""
    return f"{sha256[:2]}/{sha256}"


def _flush(path: Path) -> None:
    """Let a file and its name outlive a crash of the machine."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        with storage_full_named():
            yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise StorageUnavailable(
            f"The artifact store cannot be used right now ({type(error).__name__})."
        ) from error
