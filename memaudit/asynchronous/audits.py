"""`client.audits`."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Unpack

from memaudit.asynchronous.resources import Operations
from memaudit.calls import Call, work_headers
from memaudit.formats import MEDIA_TYPES, Format
from memaudit.requests import AuditCreate, ListAudits, ListScores
from memaudit.types import Audit, Estimate, Score, TokenEvidence


class Audits(Operations[Audit]):
    """A text set scored under a language model."""

    async def create(self, *, idempotency_key: str | None = None, **request: Unpack[AuditCreate]) -> Audit:
        """Request an audit; it goes on by itself.

        Args:
            idempotency_key: the same key and request give the same audit; a fresh one unless given.
            request: as of `POST /v1/audits`.

        Raises:
            Invalid: the request is wrong.
            NotFound: there is no such text set or language model.
        """
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(Audit, call)

    async def estimate(self, **request: Unpack[AuditCreate]) -> Estimate:
        """What an audit would take: checked as the request itself, which is not made.

        Args:
            request: as of `POST /v1/audits`.
        """
        # Nothing is done, so that it may be asked again.
        call = Call("POST", self._path, {"dry_run": True}, json=request, headers=work_headers(None))
        return await self._sender.read(Estimate, call)

    def list(self, *, page_size: int = 100, **filters: Unpack[ListAudits]) -> AsyncIterator[Audit]:
        """All audits, newest first, page by page as they are reached."""
        return self._sender.pages(Audit, self._path, filters, page_size)

    def scores(
        self,
        id: str,
        *,
        page_size: int = 1000,
        **filters: Unpack[ListScores],
    ) -> AsyncIterator[Score]:
        """The scores of all texts, page by page as they are reached.

        Raises:
            Conflict: the audit has not succeeded.
        """
        return self._sender.pages(Score, self._path_of(id, "scores"), filters, page_size)

    async def save_scores(
        self,
        id: str,
        target: str | Path,
        *,
        format: Format = "parquet",
        group: str | None = None,
    ) -> None:
        """Stream the scores of all texts into a file, which is there once it is whole.

        Raises:
            Conflict: the audit has not succeeded.
        """
        accept = {"Accept": MEDIA_TYPES[format]}
        await self._sender.save(
            Call("GET", self._path_of(id, "scores"), {"group": group}, headers=accept), Path(target)
        )

    async def tokens(self, id: str, text_id: str) -> TokenEvidence:
        """The tokens of a text with their log-likelihood and rank."""
        call = Call("GET", self._path_of(id, "scores", text_id, "tokens"))
        return await self._sender.read(TokenEvidence, call)
