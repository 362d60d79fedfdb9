"""Answer a request that creates work once: the same key gives the first answer again."""

import hashlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.store.idempotency import recall, remember
from app.store.tenants import Principal

Resource = TypeVar("Resource", bound=BaseModel)

# Fields that requests had no place for in release 0.1, whose keys are fingerprints of all others.
_ADDED: Final[dict[str, Any]] = {
    "options": {"prefix_token", "special_tokens"},
    "evaluation": {"prefix_token"},
}


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
    fingerprint, *older = _fingerprints(operation, request)
    tenant_id = principal.tenant_id
    first = recall(session, tenant_id=tenant_id, key=key, fingerprints={fingerprint, *older})
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


def _fingerprints(operation: str, request: BaseModel) -> list[str]:
    """What tells a request from others, and what told it in an older release.

    What is left at its default takes no part, so that a release with further fields finds the same.
    """
    given = request.model_dump_json(exclude_defaults=True)
    canonical = [given]
    if given == request.model_dump_json(exclude_defaults=True, exclude=_ADDED):
        canonical.append(request.model_dump_json(exclude=_ADDED))
    return [
        hashlib.sha256(f"{operation}\n{one}".encode("utf-8", "surrogatepass")).hexdigest()
        for one in canonical
    ]
