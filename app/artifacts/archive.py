"""An artifact as a tar archive: the same bytes each time, its length known before the first byte."""

import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import Final

from app.store.artifacts import Artifact, ArtifactFile
from app.store.blobs.reading import stream_range
from app.store.blobs.rows import Blob
from app.store.core.unit_of_work import Store

_END: Final = 2 * tarfile.BLOCKSIZE  # two empty blocks


def archive_length(artifact: Artifact, files: Sequence[ArtifactFile]) -> int:
    """The size of the archive in bytes."""
    members = _members_length(artifact, files) + _END
    return members + -members % tarfile.RECORDSIZE


async def stream_archive(
    store: Store, artifact: Artifact, members: Sequence[tuple[ArtifactFile, Blob]]
) -> AsyncIterator[bytes]:
    """The archive, a verified chunk at a time. The first piece holds the first chunk of a file.

    Raises:
        ArtifactCorrupt: the next chunk is not what was put; none of its bytes were given out.
    """
    pending = b""
    for file, blob in members:
        pending += _header(artifact, file)
        async for chunk in stream_range(store, blob, 0, blob.size):
            yield pending + chunk if pending else chunk
            pending = b""
        pending += bytes(-file.size % tarfile.BLOCKSIZE)
    files = [file for file, _ in members]
    yield pending + bytes(archive_length(artifact, files) - _members_length(artifact, files))


def _members_length(artifact: Artifact, files: Sequence[ArtifactFile]) -> int:
    return sum(len(_header(artifact, file)) + file.size + -file.size % tarfile.BLOCKSIZE for file in files)


def _header(artifact: Artifact, file: ArtifactFile) -> bytes:
    member = tarfile.TarInfo(file.path)
    member.size = file.size
    member.mtime = int(artifact.created_at.timestamp())
    return member.tobuf(tarfile.PAX_FORMAT)
