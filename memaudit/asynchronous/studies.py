"""`client.studies`."""

from collections.abc import AsyncIterator
from typing import Unpack

from memaudit.asynchronous.resources import Operations
from memaudit.calls import Call, work_headers
from memaudit.requests import ListStudies, StudyCreate
from memaudit.types import Estimate, Study, StudyText


class Studies(Operations[Study]):
    """A text set scored under several language models."""

    async def create(self, *, idempotency_key: str | None = None, **request: Unpack[StudyCreate]) -> Study:
        """Request a study; it goes on by itself.

        Args:
            idempotency_key: the same key and request give the same study; a fresh one unless given.
            request: as of `POST /v1/studies`.
        """
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(Study, call)

    async def estimate(self, **request: Unpack[StudyCreate]) -> Estimate:
        """What a study would take: checked as the request itself, which is not made.

        Args:
            request: as of `POST /v1/studies`.
        """
        # Nothing is done, so that it may be asked again.
        call = Call("POST", self._path, {"dry_run": True}, json=request, headers=work_headers(None))
        return await self._sender.read(Estimate, call)

    def list(self, *, page_size: int = 100, **filters: Unpack[ListStudies]) -> AsyncIterator[Study]:
        """All studies, newest first, page by page as they are reached."""
        return self._sender.pages(Study, self._path, filters, page_size)

    def texts(self, id: str, *, page_size: int = 1000) -> AsyncIterator[StudyText]:
        """The texts of a study that has succeeded, each under all its language models."""
        return self._sender.pages(StudyText, self._path_of(id, "texts"), {}, page_size)
