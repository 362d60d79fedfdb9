"""`client.policies`."""

from collections.abc import AsyncIterator, Sequence
from typing import Final, Unpack
from urllib.parse import quote

from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call, work_headers
from memaudit.requests import ListPolicies, PolicyCreate
from memaudit.types import Policy, PolicyTemplate, PolicyTemplateList

_PATH: Final = "/v1/policies"


class Policies:
    """Named, versioned, immutable rules for audits, studies and edits."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def create(self, *, idempotency_key: str | None = None, **request: Unpack[PolicyCreate]) -> Policy:
        """Write down a policy, the next version of its name.

        Args:
            idempotency_key: the same key and request give the same policy; a fresh one unless given.
            request: as of `POST /v1/policies`.

        Raises:
            Invalid: a rule is wrong.
        """
        call = Call("POST", _PATH, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(Policy, call)

    async def get(self, id: str) -> Policy:
        """A policy with its rules."""
        return await self._sender.read(Policy, Call("GET", f"{_PATH}/{quote(id, safe='')}"))

    def list(self, *, page_size: int = 100, **filters: Unpack[ListPolicies]) -> AsyncIterator[Policy]:
        """All policies, newest first, page by page as they are reached."""
        return self._sender.pages(Policy, _PATH, filters, page_size)

    async def templates(self) -> Sequence[PolicyTemplate]:
        """The policies that ship with the service, to be taken as they are or changed."""
        return (await self._sender.read(PolicyTemplateList, Call("GET", "/v1/policy-templates"))).data
