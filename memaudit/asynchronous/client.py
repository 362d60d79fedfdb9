"""The client."""

import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack

import httpx

from memaudit.answers import document, read_as
from memaudit.asynchronous.artifacts import Artifacts
from memaudit.asynchronous.audits import Audits
from memaudit.asynchronous.edits import Edits
from memaudit.asynchronous.gates import Gates
from memaudit.asynchronous.language_models import LanguageModels
from memaudit.asynchronous.model_lines import ModelLines, ModelVersions
from memaudit.asynchronous.policies import Policies
from memaudit.asynchronous.presets import Presets
from memaudit.asynchronous.sender import Sender
from memaudit.asynchronous.studies import Studies
from memaudit.asynchronous.tenants import Tenants
from memaudit.asynchronous.text_sets import TextSets
from memaudit.asynchronous.trail import Trail
from memaudit.asynchronous.webhooks import Webhooks
from memaudit.calls import Call, work_headers
from memaudit.connection import connection
from memaudit.requests import ListEvents, ScoreRequest
from memaudit.types import (
    Audit,
    Edit,
    Event,
    Gate,
    LanguageModel,
    ModelVersion,
    ScoreList,
    Study,
    TextSet,
    Usage,
)


class AsyncClient:
    """A client of a memaudit service, as the owner of an API key. A context manager.

    What is sent while the service is away is sent again, for as long as `patience` lasts; requests that
    create work repeat their idempotency key, so they create it once. `memaudit.errors` shows what is raised.

    Args:
        url: base URL of the service; MEMAUDIT_URL unless given, else this machine's.
        api_key: `mak_…`; MEMAUDIT_API_KEY unless given.
        timeout: the longest silence of the service, in seconds.
        patience: for how long a request is repeated while the service is away, in seconds; 0 for once.
        verify: how the service's certificate is checked.
        transport: what takes the place of the network.

    Raises:
        ValueError: there is no key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 90.0,
        patience: float = 30.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        found = connection(url, api_key, timeout=timeout, patience=patience, verify=verify)
        sender = self._sender = Sender(found, transport)
        self.models = LanguageModels(sender, "/v1/models", LanguageModel)
        self.text_sets = TextSets(sender, "/v1/text-sets", TextSet)
        self.audits = Audits(sender, "/v1/audits", Audit)
        self.studies = Studies(sender, "/v1/studies", Study)
        self.edits = Edits(sender, "/v1/edits", Edit)
        self.policies = Policies(sender)
        self.gates = Gates(sender, "/v1/gates", Gate)
        self.model_lines = ModelLines(sender)
        self.model_versions = ModelVersions(sender, "/v1/model-versions", ModelVersion)
        self.artifacts = Artifacts(sender)
        self.presets = Presets(sender)
        self.tenants = Tenants(sender)
        self.trail = Trail(sender)
        self.webhooks = Webhooks(sender)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._sender.connection.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._sender.aclose()

    def events(self, *, page_size: int = 100, **filters: Unpack[ListEvents]) -> AsyncIterator[Event]:
        """What has ended and how, the oldest first, page by page as it is reached."""
        return self._sender.pages(Event, "/v1/events", filters, page_size)

    async def usage(self) -> Usage:
        """What the tenant of the key uses, against its limits."""
        return await self._sender.read(Usage, Call("GET", "/v1/usage"))

    async def score(
        self, *, idempotency_key: str | None = None, **request: Unpack[ScoreRequest]
    ) -> ScoreList | Audit:
        """Score up to 64 short texts at once.

        Args:
            idempotency_key: the same key and request give the same scores; a fresh one unless given.
            request: as of `POST /v1/score`.

        Returns:
            The scores; an audit to wait for where they did not come in `timeout` seconds of the request.
        """
        call = Call("POST", "/v1/score", json=request, headers=work_headers(idempotency_key))
        answer = document(await self._sender.send(call), "object")
        if answer["object"] == "audit":
            return read_as(Audit, answer)
        return read_as(ScoreList, answer)
