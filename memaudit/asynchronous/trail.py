"""`client.trail`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Unpack

from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call
from memaudit.requests import ListTrail
from memaudit.types import TrailEntry

_PATH: Final = "/v1/trail"


class Trail:
    """Who did what, for a key with the scope `trail:read` in its tenant, with `admin` in all of them."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def list(self, *, page_size: int = 100, **filters: Unpack[ListTrail]) -> AsyncIterator[TrailEntry]:
        """All entries, the oldest first, page by page as they are reached."""
        return self._sender.pages(TrailEntry, _PATH, filters, page_size)

    async def save(self, target: str | Path, **filters: Unpack[ListTrail]) -> None:
        """Write all entries to a file as JSON lines, which `memaudit trail verify` checks."""
        call = Call("GET", _PATH, filters, headers={"Accept": "application/jsonl"})
        await self._sender.save(call, Path(target))

    async def head(self) -> bytes:
        """The signed digest of the last entry; it needs the scope `admin`.

        Kept elsewhere, it shows later that no entry was cut off: `memaudit trail verify --head`.
        """
        return (await self._sender.send(Call("GET", f"{_PATH}/head"))).content
