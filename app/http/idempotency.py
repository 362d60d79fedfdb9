"""Answer a request that creates work once: the same key gives the first answer again."""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.store.idempotency import recall, remember
from app.store.tenants import Principal

Resource = TypeVar("Resource", bound=BaseModel)


def answer_once(
    session: Session,
    principal: Principal,
    key: str,
    operation: str,
    request: BaseModel,
    resource: type[Resource],
    work: Callable[[], Resource],
) -> Resource:
    """Do the work, or give the answer it had when the key was first used. One transaction holds both.

    Raises:
        IdempotencyInFlight: the key is being used right now.
        IdempotencyMismatch: the key was used with another request.
    """
    canonical = f"{operation}\n{request.model_dump_json()}"
    fingerprint = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    tenant_id = principal.tenant_id
    first = recall(session, tenant_id=tenant_id, key=key, fingerprint=fingerprint)
    if first is not None:
        return resource.model_validate(first)
    answer = work()
    remember(
        session,
        tenant_id=tenant_id,
        key=key,
        fingerprint=fingerprint,
        response=answer.model_dump(mode="json"),
    )
    return answer
