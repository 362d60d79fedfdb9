"""Who is asking: API keys, sessions of the pages and signed tokens, each looked up every two seconds at most.

So a key that was revoked, anywhere, is refused everywhere within seconds, and a client that asks often costs
the database next to nothing.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from sqlalchemy.orm import Session

from app.contracts.tenants import Quotas
from app.errors import TooManyWrongKeys, Unauthorized
from app.http.signed_tokens import Claims, SignedTokens
from app.http.wrong_keys import WrongKeys
from app.store.api_keys import find_principal
from app.store.core.unit_of_work import Store
from app.store.page_sessions import find_session
from app.store.tenants import Principal, find_tenant

REMEMBERED_SECONDS: Final = 2.0
_MOST_REMEMBERED: Final = 2000
_REFUSED: Final = "The API key or token is unknown, revoked or expired, or its tenant is disabled."


class Kind(Enum):
    """What shows who is asking."""

    API_KEY = auto()
    PAGE_SESSION = auto()
    SIGNED_TOKEN = auto()


_FIND: Final[dict[Kind, Callable[[Session, str], Principal | None]]] = {
    Kind.API_KEY: find_principal,
    Kind.PAGE_SESSION: find_session,
}


def _principal_of(session: Session, claims: Claims) -> Principal | None:
    tenant = find_tenant(session, claims.tenant)
    if tenant is None:
        return None
    return Principal(
        tenant.id, tenant.name, None, claims.scopes, Quotas.stored(tenant.quotas), claims.subject
    )


@dataclass(frozen=True)
class Credential:
    """A secret that shows who is asking. It is compared by its digest and printed nowhere."""

    kind: Kind
    secret: str = field(repr=False, compare=False)
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.secret.encode("utf-8", "surrogatepass")).digest()
        object.__setattr__(self, "digest", digest)


class Principals:
    """The principals of credentials, remembered for a moment.

    Args:
        store: where they are looked up.
        wrong_keys: counts, for each address, the API keys that were none.
        quotas: what a tenant may use that has no quotas of its own.
        tokens: reads signed tokens; None where there is no issuer.
    """

    def __init__(
        self, store: Store, wrong_keys: WrongKeys, quotas: Quotas, tokens: SignedTokens | None = None
    ) -> None:
        self._quotas = quotas
        self._store = store
        self._wrong_keys = wrong_keys
        self._tokens = tokens
        # The least recently used first. What was good once stays known for longer than it is believed.
        self._known: OrderedDict[Credential, tuple[Principal, float]] = OrderedDict()

    def bearer(self, secret: str) -> Credential:
        """What came as a bearer's secret: an API key, or a signed token where these are taken."""
        is_token = self._tokens is not None and self._tokens.are_like(secret)
        return Credential(Kind.SIGNED_TOKEN if is_token else Kind.API_KEY, secret)

    async def find(self, credential: Credential) -> Principal | None:
        """Whose credential this is; None when it is none, or no good any more."""
        principal, until = self._known.get(credential, (None, 0.0))
        if until > time.monotonic():
            return principal
        asked = time.monotonic()
        principal = await self._look_up(credential)
        if principal is None:
            self._known.pop(credential, None)
            return None
        principal = replace(principal, quotas=principal.quotas.or_else(self._quotas))
        self._known[credential] = principal, asked + REMEMBERED_SECONDS
        self._known.move_to_end(credential)
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return principal

    async def _look_up(self, credential: Credential) -> Principal | None:
        if credential.kind is not Kind.SIGNED_TOKEN:
            return await self._store.run(_FIND[credential.kind], credential.secret)
        assert self._tokens is not None
        claims = await self._tokens.read(credential.secret)
        return None if claims is None else await self._store.run(_principal_of, claims)

    async def require(self, credential: Credential, address: str) -> Principal:
        """Whose credential this is; of an API key unless too many that came from this address were none.

        One that was good before is looked up all the same: nobody is locked out by what others behind the
        same address send.

        Raises:
            Unauthorized: it is none, or no good any more.
            TooManyWrongKeys: it is not looked up.
        """
        # A session that is over is no key that somebody tries. Tokens end every few minutes, and nobody is
        # known by the next one; one that was not signed is refused without a look at the database.
        counted = credential.kind is Kind.API_KEY
        if counted and credential not in self._known and (wait := self._wrong_keys.seconds_to_wait(address)):
            raise TooManyWrongKeys(wait)
        principal = await self.find(credential)
        if principal is None:
            if counted:
                self._wrong_keys.count(address)
            raise Unauthorized(_REFUSED)
        return principal

    def forget(self) -> None:
        """Look all credentials up anew: one was revoked here."""
        self._known = OrderedDict((known, (who, 0.0)) for known, (who, _) in self._known.items())
