"""`client.artifacts`."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from memaudit.asynchronous.blocking import blocking
from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call
from memaudit.errors import DownloadCorrupt, MemauditError
from memaudit.types import Artifact, ArtifactFile

_PATH: Final = "/v1/artifacts"
_BLOCK_BYTES: Final = 2**20
_PARTIAL_CONTENT: Final = 206

OnBytes = Callable[[int], object]


class Artifacts:
    """Files of edited models."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def get(self, id: str) -> Artifact:
        """An artifact with its manifest."""
        return await self._sender.read(Artifact, Call("GET", f"{_PATH}/{quote(id, safe='')}"))

    def list(self, *, page_size: int = 100) -> AsyncIterator[Artifact]:
        """All artifacts, newest first, page by page as they are reached."""
        return self._sender.pages(Artifact, _PATH, {}, page_size)

    async def delete(self, id: str) -> None:
        """Forget an artifact."""
        await self._sender.send(Call("DELETE", f"{_PATH}/{quote(id, safe='')}"))

    async def pull(
        self,
        id: str,
        directory: str | Path,
        *,
        on_bytes: OnBytes | None = None,
    ) -> Artifact:
        """Download what is missing of an artifact's files and verify every byte.

        What came is kept when it breaks off: pulled again, it goes on there.

        Args:
            id: of the artifact; the key needs the scope edit:read.
            directory: made if missing. Its other files stay as they are.
            on_bytes: called with how many bytes more are there; fewer where a file has to begin again.

        Returns:
            The artifact, each of whose files is there and matches its digest.

        Raises:
            DownloadCorrupt: a file does not match its digest; it is not kept.
            ServiceUnreachable: not a byte came for as long as the client's patience lasted.
            RequestRefused: there is no such artifact, or its bytes in the store are corrupt.
        """
        artifact = await self.get(id)
        for file in artifact.files:
            await self._pull_file(artifact, file, Path(directory), on_bytes or _ignore)
        return artifact

    async def _pull_file(
        self, artifact: Artifact, file: ArtifactFile, directory: Path, on_bytes: OnBytes
    ) -> None:
        target = directory / file.path
        if not target.resolve().is_relative_to(directory.resolve()):
            raise DownloadCorrupt("the artifact has a file whose path leads outside the directory")
        if await blocking(partial(_matches, target, file)):
            on_bytes(file.size)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.{file.sha256[:16]}.part")
        await self._download(f"{_PATH}/{artifact.id}/files/{quote(file.path)}", file, unfinished, on_bytes)
        if not await blocking(partial(_matches, unfinished, file)):
            unfinished.unlink()
            raise DownloadCorrupt(f"{file.path} does not match its SHA-256 and was not kept; pull again")
        unfinished.replace(target)

    async def _download(self, url: str, file: ArtifactFile, unfinished: Path, on_bytes: OnBytes) -> None:
        """Fetch what is missing of a file, for as long as it grows."""
        unfinished.touch()
        if unfinished.stat().st_size > file.size:
            os.truncate(unfinished, 0)
        on_bytes(unfinished.stat().st_size)
        patience = self._sender.patience()
        while (before := unfinished.stat().st_size) < file.size:
            # The digest makes sure that the rest is of the same file.
            rest = {"Range": f"bytes={before}-", "If-Range": f'"{file.sha256}"'} if before else {}
            call = Call("GET", url, headers=rest | {"Accept-Encoding": "identity"})
            try:
                await self._fetch(call, before, unfinished, on_bytes)
            except MemauditError as error:
                if unfinished.stat().st_size > before:
                    patience.renew()
                await patience.pause(call, error)

    async def _fetch(self, call: Call, have: int, unfinished: Path, on_bytes: OnBytes) -> None:
        async with self._sender.stream(call) as response:
            if have and response.status_code != _PARTIAL_CONTENT:
                os.truncate(unfinished, 0)
                on_bytes(-have)
            with unfinished.open("ab") as output:
                async for block in response.aiter_bytes(_BLOCK_BYTES):
                    await blocking(partial(output.write, block))
                    on_bytes(len(block))


def _ignore(_count: int) -> None:
    """Nobody looks on."""


def _matches(path: Path, file: ArtifactFile) -> bool:
    """Whether a file is there and has these bytes."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
