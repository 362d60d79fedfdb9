"""`client.tenants`."""

from collections.abc import AsyncIterator
from typing import Final, Unpack
from urllib.parse import quote

from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call
from memaudit.requests import APIKeyCreate, ListTenants, TenantChange, TenantCreate
from memaudit.types import APIKey, NewAPIKey, Tenant

_PATH: Final = "/v1/tenants"


class Tenants:
    """Tenants and their API keys, for a key with the scope `admin`; with `keys:write` the own ones alone."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def create(self, **request: Unpack[TenantCreate]) -> Tenant:
        """Make a tenant. It has no key yet.

        Raises:
            Conflict: there is one of this name.
        """
        return await self._sender.read(Tenant, Call("POST", _PATH, json=request))

    async def get(self, id: str) -> Tenant:
        """A tenant."""
        return await self._sender.read(Tenant, Call("GET", _path(id)))

    def list(self, *, page_size: int = 100, **filters: Unpack[ListTenants]) -> AsyncIterator[Tenant]:
        """All tenants that may be seen, newest first, page by page as they are reached."""
        return self._sender.pages(Tenant, _PATH, filters, page_size)

    async def change(self, id: str, **request: Unpack[TenantChange]) -> Tenant:
        """Change what is given of a tenant; `quotas` and `retention` are each replaced as a whole.

        Raises:
            Conflict: another tenant has the name, or it is that of the key that asks.
        """
        return await self._sender.read(Tenant, Call("PATCH", _path(id), json=request))

    async def create_key(self, id: str, **request: Unpack[APIKeyCreate]) -> NewAPIKey:
        """Make an API key of a tenant. The answer holds it, this once.

        Raises:
            Conflict: two keys of its name live.
        """
        return await self._sender.read(NewAPIKey, Call("POST", f"{_path(id)}/keys", json=request))

    def list_keys(self, id: str, *, page_size: int = 100) -> AsyncIterator[APIKey]:
        """All keys of a tenant, newest first, with those that are no good any more."""
        return self._sender.pages(APIKey, f"{_path(id)}/keys", {}, page_size)

    async def revoke_key(self, id: str) -> APIKey:
        """Revoke an API key for good."""
        return await self._sender.read(APIKey, Call("DELETE", f"/v1/keys/{quote(id, safe='')}"))


def _path(id: str) -> str:
    return f"{_PATH}/{quote(id, safe='')}"
