"""Answer a request that creates work once: the same key gives the first answer again."""

import hashlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.http.quotas import require_work
from app.store.idempotency import recall, remember
from app.store.tenants import Principal

Resource = TypeVar("Resource", bound=BaseModel)

_BEGINS_NO_WORK: Final = frozenset({"text_set", "policy", "model_line", "webhook"})
# What release 0.1 did not know.
_ADDED: Final[dict[str, Any]] = {
    "preset": True,
    "policy": True,
    "options": {
        "prefix_token",
        "special_tokens",
        "min_k",
        "fdr",
        "seed",
        "extraction_rate",
        "windows",
        "near_verbatim",
    },
    "evaluation": {"prefix_token": True, "reference_model": True, "limits": {"max_auc_distance"}},
    "control_text_set": True,
    "reference_model": True,
    "retain_text_set": True,
    "retain_weight": True,
    "recovery": True,
    "constraint": {"max_nl_drop"},
    "sweep": {"retain_weight", "recovery_steps"},
}


def answer_once(
    session: Session,
    principal: Principal,
    key: str | None,
    operation: str,
    request: BaseModel,
    resource: type[Resource],
    create: Callable[[], Resource],
) -> Resource:
    """Create a resource, or give the answer of the first time. One transaction holds both.

    Without a key it is created each time. What was accepted once is not counted against a quota again.

    Raises:
        QuotaExceeded: it begins work, and the tenant has too much of it.
        IdempotencyInFlight: the key is being used right now.
        IdempotencyMismatch: the key was used with another request.
    """
    if key is None:
        return _within_quotas(session, principal, operation, create)
    # What was sent, and not what it stands for: an option that a later release adds changes nothing.
    sent = request.model_dump_json(exclude_unset=True)
    fingerprint = _fingerprint(operation, sent)
    tenant_id = principal.tenant_id
    first = recall(session, tenant_id=tenant_id, key=key, digests=lambda: _fingerprints(operation, request))
    if first is not None:
        return resource.model_validate(first)
    answer = _within_quotas(session, principal, operation, create)
    remember(
        session,
        tenant_id=tenant_id,
        key=key,
        digest=fingerprint,
        response=answer.model_dump(mode="json"),
    )
    return answer


def _fingerprints(operation: str, request: BaseModel) -> set[str]:
    """What this release or an earlier one would have written down of a request."""
    sent = request.model_dump_json(exclude_unset=True)
    # Releases before this one wrote down every option that they knew.
    found = {_fingerprint(operation, sent), _fingerprint(operation, request.model_dump_json())}
    if sent == request.model_dump_json(exclude_unset=True, exclude=_ADDED):
        found.add(_fingerprint(operation, request.model_dump_json(exclude=_ADDED)))
    return found


def _within_quotas(
    session: Session, principal: Principal, operation: str, create: Callable[[], Resource]
) -> Resource:
    answer = create()
    if operation not in _BEGINS_NO_WORK:
        require_work(session, principal)
    return answer


def _fingerprint(operation: str, request: str) -> str:
    return hashlib.sha256(f"{operation}\n{request}".encode("utf-8", "surrogatepass")).hexdigest()
