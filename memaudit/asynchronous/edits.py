"""`client.edits`."""

from collections.abc import AsyncIterator
from typing import Unpack

from memaudit.asynchronous.resources import Operations
from memaudit.calls import Call, work_headers
from memaudit.requests import EditCreate, ListEdits
from memaudit.types import Edit, Estimate


class Edits(Operations[Edit]):
    """Language models derived from others. `client.artifacts.pull(edit.artifact, …)` downloads one."""

    async def create(self, *, idempotency_key: str | None = None, **request: Unpack[EditCreate]) -> Edit:
        """Request an edited model; the work goes on by itself.

        Args:
            idempotency_key: the same key and request give the same edit; a fresh one unless given.
            request: as of `POST /v1/edits`.
        """
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(Edit, call)

    async def estimate(self, **request: Unpack[EditCreate]) -> Estimate:
        """What an edit would take: checked as the request itself, which is not made.

        Args:
            request: as of `POST /v1/edits`.
        """
        # Nothing is done, so that it may be asked again.
        call = Call("POST", self._path, {"dry_run": True}, json=request, headers=work_headers(None))
        return await self._sender.read(Estimate, call)

    def list(self, *, page_size: int = 100, **filters: Unpack[ListEdits]) -> AsyncIterator[Edit]:
        """All edits, newest first, page by page as they are reached."""
        return self._sender.pages(Edit, self._path, filters, page_size)
