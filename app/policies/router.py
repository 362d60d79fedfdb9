"""`/v1/policies` and `/v1/policy-templates`."""

from fastapi import APIRouter, Response

from app.http.dependencies import (
    AuditReader,
    AuditWriter,
    IdempotencyKey,
    PageCursor,
    PageLimit,
    StoreDependency,
)
from app.http.filters import METADATA_PARAMETER, MetadataQuery, NameQuery
from app.http.json_body import StrictJSONRoute
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.policies import service
from app.policies.schemas import PolicyCreate, PolicyOut, PolicyTemplateList, PolicyTemplateOut
from app.policies.shipped import templates

router = APIRouter(prefix="/v1", tags=["policies"], route_class=StrictJSONRoute)


@router.post("/policies", status_code=201, responses=problem_responses(409))
async def create_policy(
    request: PolicyCreate,
    key: IdempotencyKey,
    principal: AuditWriter,
    store: StoreDependency,
    response: Response,
) -> PolicyOut:
    """Write a policy down: its rules, or the name of a template. It never changes afterwards."""
    policy = await store.run(service.create_policy, principal, key, request)
    response.headers["Location"] = f"/v1/policies/{policy.id}"
    return policy


@router.get("/policies", openapi_extra=METADATA_PARAMETER)
async def list_policies(
    principal: AuditReader,
    store: StoreDependency,
    metadata: MetadataQuery,
    name: NameQuery = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[PolicyOut]:
    """List policies, newest first; all versions of one name, with some metadata."""
    return await store.run(service.list_page, principal.tenant_id, name, metadata, limit, cursor)


@router.get("/policies/{policy_id}")
async def read_policy(policy_id: str, principal: AuditReader, store: StoreDependency) -> PolicyOut:
    """Read a policy."""
    return await store.run(service.read_policy, principal.tenant_id, policy_id)


@router.get("/policy-templates")
async def list_policy_templates(_: AuditReader) -> PolicyTemplateList:
    """List the policies that ship with this release, all in one answer."""
    return PolicyTemplateList(
        data=[
            PolicyTemplateOut(template=name, name=each.name, description=each.description, rules=each.rules)
            for name, each in templates().items()
        ]
    )
