"""`/v1/tenants` and `/v1/keys`."""

from fastapi import APIRouter, Response

from app.http.dependencies import (
    Admin,
    KeyWriter,
    PageCursor,
    PageLimit,
    PrincipalsDependency,
    StoreDependency,
    read_id,
)
from app.http.filters import NameQuery
from app.http.json_body import StrictJSONRoute
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.store.core.identifiers import Prefix
from app.tenants import service
from app.tenants.schemas import (
    APIKeyCreate,
    APIKeyOut,
    NewAPIKeyOut,
    TenantChange,
    TenantCreate,
    TenantOut,
)

router = APIRouter(prefix="/v1", tags=["tenants"], route_class=StrictJSONRoute)


@router.post("/tenants", status_code=201, responses=problem_responses(409))
async def create_tenant(
    request: TenantCreate, principal: Admin, store: StoreDependency, response: Response
) -> TenantOut:
    """Make a tenant; then make a key of it."""
    tenant = await store.run(service.create_tenant, principal, request)
    response.headers["Location"] = f"/v1/tenants/{tenant.id}"
    return tenant


@router.get("/tenants")
async def list_tenants(
    principal: KeyWriter,
    store: StoreDependency,
    name: NameQuery = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[TenantOut]:
    """List tenants, newest first. Without the scope `admin` only the own one is there."""
    return await store.run(service.list_page, principal, name, limit, cursor)


@router.get("/tenants/{tenant_id}")
async def read_tenant(tenant_id: str, principal: KeyWriter, store: StoreDependency) -> TenantOut:
    """Read a tenant."""
    return await store.run(service.read_tenant, principal, read_id(Prefix.TENANT, tenant_id))


@router.patch("/tenants/{tenant_id}", responses=problem_responses(409))
async def change_tenant(
    tenant_id: str,
    request: TenantChange,
    principal: Admin,
    store: StoreDependency,
    principals: PrincipalsDependency,
) -> TenantOut:
    """Change a tenant: each field that is given. `quotas` and `retention` are each replaced as a whole.

    A disabled tenant's keys and sessions are refused within seconds. What it asked for before goes on, and
    its results are there when it is enabled again.
    """
    tenant = await store.run(service.change_tenant, principal, read_id(Prefix.TENANT, tenant_id), request)
    principals.forget()
    return tenant


@router.post("/tenants/{tenant_id}/keys", status_code=201, responses=problem_responses(409))
async def create_key(
    tenant_id: str, request: APIKeyCreate, principal: KeyWriter, store: StoreDependency, response: Response
) -> NewAPIKeyOut:
    """Make an API key. The answer holds it; it is shown this once.

    Two keys of one name may live at a time: to rotate, make the second, change over, revoke the first.
    A key without the scope `admin` makes keys of its own tenant that may do no more than itself. A key that
    ends makes none that lasts longer, but for an operator's, which bounds only others with the scope `admin`.
    """
    key = await store.run(service.make_key, principal, read_id(Prefix.TENANT, tenant_id), request)
    response.headers["Cache-Control"] = "no-store"
    return key


@router.get("/tenants/{tenant_id}/keys")
async def list_keys(
    tenant_id: str,
    principal: KeyWriter,
    store: StoreDependency,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[APIKeyOut]:
    """List a tenant's API keys, newest first, with those that are no good any more."""
    identifier = read_id(Prefix.TENANT, tenant_id)
    return await store.run(service.list_keys_page, principal, identifier, limit, cursor)


@router.delete("/keys/{key_id}")
async def revoke_key(
    key_id: str, principal: KeyWriter, store: StoreDependency, principals: PrincipalsDependency
) -> APIKeyOut:
    """Revoke an API key for good. Within five seconds no process takes it any more, and open streams end."""
    key = await store.run(service.revoke, principal, read_id(Prefix.API_KEY, key_id))
    principals.forget()
    return key
