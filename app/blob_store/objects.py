"""Blobs as the objects of a directory (`file:///…`) or of a bucket (`s3://…`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from app.blob_store.full import storage_full_named
from app.errors import ArtifactCorrupt, StorageUnavailable

POSTGRES: Final = "postgres:"
_FILE_SCHEME: Final = "file://"
# Parts under way at once; each is held in memory.
_PARTS_AT_ONCE: Final = 2
# A bucket that does not answer is given up after this; a job is tried again later.
_RETRIES: Final = 4
_RETRY_TIME: Final = timedelta(seconds=30)


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
                self._store = S3Store.from_url(
                    url, retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIME}
                )
            else:
                self._store = LocalStore(self._directory, mkdir=True)

    def put(self, sha256: str, chunks: Iterator[bytes], chunk_bytes: int) -> None:
        """Write a blob, which is whole afterwards or not there.

        Raises:
            StorageFull, StorageUnavailable: nothing was written.
        """
        name = _name(sha256)
        with _failures_named():
            obstore.put(self._store, name, chunks, chunk_size=chunk_bytes, max_concurrency=_PARTS_AT_ONCE)
            if self._directory is not None:
                _flush(self._directory / name)

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
