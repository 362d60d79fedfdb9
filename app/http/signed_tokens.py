"""Tokens that an OpenID Connect issuer signed (RFC 7519), in place of API keys."""

from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import jwt

from app.contracts.tenants import SCOPES
from app.http.issuer_keys import IssuerKeys
from app.settings import OIDC

_REQUIRED: Final = ["exp", "iat", "iss", "aud", "sub"]
_MOST_CHARS: Final = 8192
_MOST_NAME_CHARS: Final = 255
_PARTS: Final = 3


@dataclass(frozen=True)
class Claims:
    """What a token says that its bearer is: who, of which tenant, by its id or name, and what it may do."""

    subject: str
    tenant: str
    scopes: frozenset[str]


class SignedTokens:
    """Reads the tokens of one issuer.

    Args:
        oidc: the issuer and what its tokens stand for.

    Raises:
        ValueError: a scope that tokens are to stand for is none.
    """

    def __init__(self, oidc: OIDC) -> None:
        wanted = {scope for scopes in oidc.scopes.values() for scope in scopes}
        if unknown := wanted - set(SCOPES):
            raise ValueError(f"MEMAUDIT_OIDC names scopes that are none: {', '.join(sorted(unknown))}")
        self._oidc = oidc
        self._keys = IssuerKeys(oidc.jwks_url, oidc.algorithms)

    @staticmethod
    def are_like(secret: str) -> bool:
        """Whether what came as a bearer's secret is written as a token is."""
        return secret.count(".") == _PARTS - 1

    async def read(self, token: str) -> Claims | None:
        """What a token says; None if it is not signed by the issuer, for us, now, or says too little."""
        if len(token) > _MOST_CHARS:
            return None
        try:
            header = jwt.get_unverified_header(token)
            key_id = header.get("kid")
            # Nothing that a header could ask for is understood, so that what is critical cannot be.
            if (
                not isinstance(key_id, str)
                or "crit" in header
                or header.get("alg") not in self._oidc.algorithms
            ):
                return None
            key = await self._keys.find(key_id)
            if key is None:
                return None
            payload = jwt.decode(
                token,
                key,
                algorithms=self._oidc.algorithms,
                audience=self._oidc.audience,
                issuer=self._oidc.issuer,
                leeway=self._oidc.leeway_seconds,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError:
            return None
        return self._claims(payload)

    async def aclose(self) -> None:
        """Ask the issuer no more."""
        await self._keys.aclose()

    def _claims(self, payload: dict[str, Any]) -> Claims | None:
        subject, claimed = payload["sub"], payload.get(self._oidc.tenant_claim)
        if not _is_plain(subject) or not _is_plain(claimed):
            return None
        known = self._oidc.tenants
        tenant = known.get(claimed) if known else claimed
        return None if tenant is None else Claims(subject, tenant, self._scopes(payload))

    def _scopes(self, payload: dict[str, Any]) -> frozenset[str]:
        given = payload.get(self._oidc.scopes_claim)
        values = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        known = self._oidc.scopes or {scope: [scope] for scope in SCOPES}
        return frozenset(
            scope for value in values if isinstance(value, str) for scope in known.get(value, ())
        )


def _is_plain(name: object) -> TypeGuard[str]:
    """Whether a name can be looked up, and written into the trail."""
    return isinstance(name, str) and 0 < len(name) <= _MOST_NAME_CHARS and name.isprintable()
