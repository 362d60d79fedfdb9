"""`client.gates`."""

from collections.abc import AsyncIterator
from typing import Unpack

from memaudit.asynchronous.resources import Operations
from memaudit.calls import Call, work_headers
from memaudit.requests import GateCreate, ListGates
from memaudit.types import Gate


class Gates(Operations[Gate]):
    """Policies decided for an audit, a study or an edit: `pass`, `fail` or `inconclusive`."""

    async def create(self, *, idempotency_key: str | None = None, **request: Unpack[GateCreate]) -> Gate:
        """Ask for a decision; it waits for its subject, which may still be going on.

        Args:
            idempotency_key: the same key and request give the same gate; a fresh one unless given.
            request: as of `POST /v1/gates`.

        Raises:
            NotFound: there is no such policy, audit, study or edit.
        """
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(Gate, call)

    def list(self, *, page_size: int = 100, **filters: Unpack[ListGates]) -> AsyncIterator[Gate]:
        """All gates, newest first, page by page as they are reached."""
        return self._sender.pages(Gate, self._path, filters, page_size)
