"""What routes ask for: the store, the doorbell, who is asking, and which page."""

from typing import Annotated, Final
from uuid import UUID

from anyio import CapacityLimiter
from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import IdempotencyKeyMissing, InsufficientScope, NotFound, Unauthorized
from app.http.changes import Changes
from app.http.open_requests import OpenRequests
from app.http.principals import Credential, Principals
from app.http.request_rates import RequestRates
from app.maintenance.doorbell import Doorbell
from app.rendering.pool import Renderings
from app.settings import Settings
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.unit_of_work import Store
from app.store.tenants import Principal

ADMIN = "admin"
EDIT_READ = "edit:read"

_bearer = HTTPBearer(
    auto_error=False,
    description="An API key: `Authorization: Bearer mak_…`; where an issuer is set, or one of its tokens.",
)


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _doorbell(request: Request) -> Doorbell:
    doorbell: Doorbell = request.app.state.doorbell
    return doorbell


async def _principals(request: Request) -> Principals:
    principals: Principals = request.app.state.principals
    return principals


async def _changes(request: Request) -> Changes:
    changes: Changes = request.app.state.changes
    return changes


async def _renderings(request: Request) -> Renderings:
    renderings: Renderings = request.app.state.renderings
    return renderings


async def _token_turns(request: Request) -> CapacityLimiter:
    turns: CapacityLimiter = request.app.state.token_turns
    return turns


SettingsDependency = Annotated[Settings, Depends(_settings)]
StoreDependency = Annotated[Store, Depends(_store)]
DoorbellDependency = Annotated[Doorbell, Depends(_doorbell)]
PrincipalsDependency = Annotated[Principals, Depends(_principals)]
ChangesDependency = Annotated[Changes, Depends(_changes)]
TokenTurnsDependency = Annotated[CapacityLimiter, Depends(_token_turns)]
RenderingsDependency = Annotated[Renderings, Depends(_renderings)]


async def admit(request: Request, credential: Credential) -> Principal:
    """Who asks by a credential. When it is no good any more, the request ends if it still goes on.

    Raises:
        Unauthorized: the credential is none, or no good any more.
        TooManyWrongKeys: too many from this address were none.
        RateLimited: the tenant sent too many requests.
    """
    principals: Principals = request.app.state.principals
    principal = await principals.require(credential, request.client.host if request.client else "")
    rates: RequestRates = request.app.state.request_rates
    rates.take(request, principal)
    open_requests: OpenRequests = request.app.state.open_requests
    open_requests.enter(request, credential)
    request.state.credential = credential
    return principal


async def require_still(request: Request) -> None:
    """Refuse what took long to come if the key that it came with has ended meanwhile.

    Raises:
        Unauthorized: it has.
    """
    credential: Credential = request.state.credential
    principals: Principals = request.app.state.principals
    if await principals.find(credential) is None:
        raise Unauthorized("The API key or session ended while the request was under way.")


async def _principal(
    request: Request,
    principals: PrincipalsDependency,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    if credentials is None:
        raise Unauthorized
    return await admit(request, principals.bearer(credentials.credentials))


class RequireScope:
    """A dependency that lets a principal through whose key has a scope (or `admin`)."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(self, principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        """The principal, if the key has the scope."""
        require_scope(principal, self._scope)
        return principal


def has_scope(principal: Principal, scope: str) -> bool:
    """Whether a principal's key has a scope (or `admin`)."""
    return bool(principal.scopes & {scope, ADMIN})


def require_scope(principal: Principal, scope: str) -> None:
    """Refuse a principal whose key has neither a scope nor `admin`.

    Raises:
        InsufficientScope: it has neither.
    """
    if not has_scope(principal, scope):
        raise InsufficientScope(f"This needs an API key with the scope {scope}.")


AuditReader = Annotated[Principal, Depends(RequireScope("audit:read"))]
AuditWriter = Annotated[Principal, Depends(RequireScope("audit:write"))]
EditReader = Annotated[Principal, Depends(RequireScope(EDIT_READ))]
EditWriter = Annotated[Principal, Depends(RequireScope("edit:write"))]
KeyWriter = Annotated[Principal, Depends(RequireScope("keys:write"))]
Admin = Annotated[Principal, Depends(RequireScope(ADMIN))]


_idempotency_header = Header(
    alias="Idempotency-Key",
    min_length=1,
    max_length=255,
    pattern=r"^[\x21-\x7e]+$",
    description="A fresh value for each new piece of work; the same value gives the first answer again.",
)
IdempotencyKey = Annotated[str, _idempotency_header]
OptionalIdempotencyKey = Annotated[str | None, _idempotency_header]
DryRun = Annotated[
    bool,
    Query(
        description="Whether to answer 200 with an estimate of what this takes instead of doing it. The "
        "request is checked just the same; nothing is written, and no Idempotency-Key is needed."
    ),
]


async def _work_key(key: OptionalIdempotencyKey = None, *, dry_run: DryRun = False) -> str | None:
    if dry_run:
        return None
    if key is None:
        raise IdempotencyKeyMissing
    return key


# The key of a request for work; None if it is not to be done. Routes ask for it after the principal, so that
# whoever may not ask is told that first.
WorkKey = Annotated[str | None, Depends(_work_key)]
WaitSeconds = Annotated[float, Query(ge=0, le=60, description="Long-poll: wait up to this many seconds.")]
PageLimit = Annotated[int, Query(ge=1, le=100)]
# Several of these, as long as each may be, are still less than the headers of a request may be.
HEADER_CHARS: Final = 4096
ConditionHeader = Annotated[str | None, Header(max_length=HEADER_CHARS)]
PageCursor = Annotated[str | None, Query(max_length=500)]


def read_id(prefix: Prefix, text: str) -> UUID:
    """A public id as a UUID.

    Raises:
        NotFound: it is not an id of this kind, so there is no such resource.
    """
    value = parse_id(prefix, text)
    if value is None:
        raise NotFound("There is no such resource.")
    return value
