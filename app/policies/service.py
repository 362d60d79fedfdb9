"""Making and reading policies."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.policies.policy import policy_digest
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.policies.schemas import PolicyCreate, PolicyOut
from app.policies.shipped import get_template
from app.store.core.identifiers import new_id
from app.store.policies import Policy, get_policy, list_policies, next_version
from app.store.tenants import Principal


def create_policy(session: Session, principal: Principal, key: str, request: PolicyCreate) -> PolicyOut:
    """Write a policy down, as the next version of its name.

    Raises:
        NotFound: no template ships by this name.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> PolicyOut:
        name, description, given = request.name, request.description, request.rules
        if request.template is not None:
            template = get_template(request.template)
            name, description = name or template.name, description or template.description
            given = template.rules
        assert name is not None
        assert given is not None
        rules = [rule.model_dump(mode="json") for rule in given]
        version = next_version(session, principal.tenant_id, name)
        policy = Policy(
            id=new_id(),
            tenant_id=principal.tenant_id,
            name=name,
            version=version,
            description=description,
            template=request.template,
            rules=rules,
            sha256=policy_digest(name, version, rules),
            metadata_=dict(request.metadata),
        )
        session.add(policy)
        session.flush()
        return PolicyOut.of(policy)

    return answer_once(session, principal, key, "policy", request, PolicyOut, create)


def read_policy(session: Session, tenant_id: UUID, policy_id: str) -> PolicyOut:
    """A policy.

    Raises:
        NotFound: no such policy for this tenant.
    """
    return PolicyOut.of(get_policy(session, tenant_id, policy_id))


def list_page(
    session: Session,
    tenant_id: UUID,
    name: str | None,
    metadata: dict[str, str],
    limit: int,
    cursor: str | None,
) -> Page[PolicyOut]:
    """A tenant's policies, all or those of one name, newest first."""
    rows = list_policies(session, tenant_id, id_cursor(cursor), limit + 1, name=name, metadata=metadata)
    return page_by_id(rows, limit, PolicyOut.of)
