"""Reading blobs: a chunk is compared with its digest before a byte of it is given out."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator

import structlog
from sqlalchemy.orm import Session, sessionmaker

from app.errors import ArtifactCorrupt, MemauditError
from app.store.blobs.objects import objects_at
from app.store.blobs.rows import Blob, BlobChunk, find_blob, get_chunk
from app.store.core.unit_of_work import Store

log = structlog.get_logger()


def get_blob(session: Session, sha256: str) -> Blob:
    """A blob that something refers to.

    Raises:
        ArtifactCorrupt: it is not in the store.
    """
    blob = find_blob(session, sha256)
    if blob is None:
        raise _corrupt(sha256, "Bytes of the artifact are missing from the store.")
    return blob


async def stream_range(store: Store, blob: Blob, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes [start, stop) of a blob, a verified chunk at a time and a transaction for each.

    Raises:
        ArtifactCorrupt: the next chunk is not what was put; none of its bytes were given out.
        StorageUnavailable: the object store does not answer.
    """
    for ordinal, first, last in _pieces(blob, start, stop):
        chunk = await store.run(get_chunk, blob.sha256, ordinal)
        content = await asyncio.to_thread(_verified, blob, ordinal, chunk)
        yield content[first:last]


def read_blob(sessions: sessionmaker[Session], sha256: str) -> Iterator[bytes]:
    """All bytes of a blob, a verified chunk at a time.

    Raises:
        ArtifactCorrupt: the blob is missing, or its next chunk is not what was put.
        StorageUnavailable: the object store does not answer.
    """
    with sessions() as session:
        blob = get_blob(session, sha256)
    for ordinal, first, last in _pieces(blob, 0, blob.size):
        with sessions() as session:
            chunk = get_chunk(session, sha256, ordinal)
        yield _verified(blob, ordinal, chunk)[first:last]


def _pieces(blob: Blob, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Which chunks hold [start, stop): each with the bounds of the piece inside it."""
    for ordinal in range(start // blob.chunk_bytes, -(-stop // blob.chunk_bytes)):
        offset = ordinal * blob.chunk_bytes
        yield ordinal, max(start - offset, 0), min(stop - offset, blob.chunk_bytes)


def _verified(blob: Blob, ordinal: int, chunk: BlobChunk | None) -> bytes:
    if chunk is None:
        raise _corrupt(blob.sha256, "Bytes of the artifact are missing from the store.")
    if chunk.data is not None:
        content = chunk.data
    else:
        objects = objects_at(blob.location)
        content = objects.get(blob.sha256, ordinal * blob.chunk_bytes, chunk.size)
    if len(content) != chunk.size or hashlib.sha256(content).hexdigest() != chunk.chunk_sha256:
        raise _corrupt(
            blob.sha256, "Stored bytes of the artifact do not match their digest and are not given out."
        )
    return content


def _corrupt(sha256: str, detail: str) -> MemauditError:
    log.error("blob_corrupt", sha256=sha256)
    return ArtifactCorrupt(detail)
