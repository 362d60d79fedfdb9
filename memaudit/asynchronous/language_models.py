"""`client.models`."""

from collections.abc import AsyncIterator
from typing import Unpack

from memaudit.asynchronous.resources import Resources
from memaudit.calls import Call, work_headers
from memaudit.requests import LanguageModelCreate, ListLanguageModels
from memaudit.types import LanguageModel


class LanguageModels(Resources[LanguageModel]):
    """Registered checkpoints."""

    async def register(
        self, *, idempotency_key: str | None = None, **request: Unpack[LanguageModelCreate]
    ) -> LanguageModel:
        """Register a checkpoint; `wait` until a worker has looked at it.

        Args:
            idempotency_key: the same key and request give the same language model; a fresh one unless given.
            request: as of `POST /v1/models`.
        """
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(LanguageModel, call)

    def list(
        self, *, page_size: int = 100, **filters: Unpack[ListLanguageModels]
    ) -> AsyncIterator[LanguageModel]:
        """All language models, newest first, page by page as they are reached."""
        return self._sender.pages(LanguageModel, self._path, filters, page_size)

    async def delete(self, id: str) -> None:
        """Forget a language model.

        Raises:
            Conflict: something needs it still.
        """
        await self._sender.send(Call("DELETE", self._path_of(id)))
