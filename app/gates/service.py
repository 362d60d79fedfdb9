"""Asking for gates and reading them: with what reads their subjects, so on an edit with `edit:read` too."""

from uuid import UUID

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from app.errors import InsufficientScope
from app.gates.schemas import GateCreate, GateOut
from app.http.dependencies import EDIT_READ, has_scope
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.store.core.identifiers import Prefix, parse_id
from app.store.gates import SUBJECT_PREFIXES, Gate
from app.store.gating import add_gate
from app.store.jobs.waiting import waiting_jobs
from app.store.lifecycle import cancel_operation
from app.store.operations import OperationFilter, get_operation, list_operations
from app.store.policies import get_policy
from app.store.tenants import Principal
from app.store.trail import Action, record_request


def request_gate(session: Session, principal: Principal, key: str, request: GateCreate) -> GateOut:
    """Accept a gate. It decides at once, or when its subject has succeeded.

    Raises:
        InsufficientScope: it is on an edit, and the key may not read edits.
        NotFound: no such policy or subject for this tenant.
        NothingToJudge: the subject has failed or was cancelled.
        ValidationFailed: a rule cannot judge such a subject.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """
    kind, public_id = request.subject()
    _require_reader(principal, kind)

    def create() -> GateOut:
        policy = get_policy(session, principal.tenant_id, request.policy)
        subject_id = parse_id(SUBJECT_PREFIXES[kind], public_id)
        gate = add_gate(session, principal.tenant_id, policy, kind, subject_id, metadata=request.metadata)
        answer = GateOut.of(gate)
        record_request(session, principal, Action.WORK_REQUESTED, answer.id)
        return answer

    return answer_once(session, principal, key, "gate", request, GateOut, create)


def read_gate(session: Session, principal: Principal, gate_id: UUID) -> GateOut:
    """A gate, and what it waits for.

    Raises:
        NotFound: no such gate for this tenant.
        InsufficientScope: it is on an edit, and the key may not read edits.
    """
    row = get_operation(session, Gate, principal.tenant_id, gate_id)
    _require_reader(principal, row.subject_kind)
    return GateOut.of(row, waiting_jobs(session, [row]).get(row.id))


def cancel(session: Session, principal: Principal, gate_id: UUID) -> GateOut:
    """End a gate at the client's word; its subject goes on.

    Raises:
        NotFound: no such gate for this tenant.
        InsufficientScope: it is on an edit, and the key may not read edits.
        AlreadyTerminal: the gate had ended before.
    """
    _require_reader(principal, get_operation(session, Gate, principal.tenant_id, gate_id).subject_kind)
    answer = GateOut.of(cancel_operation(session, Gate, principal.tenant_id, gate_id))
    record_request(session, principal, Action.WORK_CANCELLED, answer.id)
    return answer


def list_page(
    session: Session,
    principal: Principal,
    wanted: OperationFilter,
    limit: int,
    cursor: str | None,
    *,
    policy: str | None,
    subject: str | None,
) -> Page[GateOut]:
    """A tenant's gates that are wanted, all or those of a policy or on a subject, newest first.

    Those on edits are left out for a key that may not read edits.
    """
    conditions: list[ColumnElement[bool]] = []
    if not has_scope(principal, EDIT_READ):
        conditions.append(Gate.subject_kind != "edit")
    if policy is not None:
        conditions.append(Gate.policy_id == parse_id(Prefix.POLICY, policy))
    if subject is not None:
        kinds = {prefix: kind for kind, prefix in SUBJECT_PREFIXES.items()}
        prefix = Prefix(subject.partition("_")[0])
        conditions += [Gate.subject_kind == kinds[prefix], Gate.subject_id == parse_id(prefix, subject)]
    rows = list_operations(
        session, Gate, principal.tenant_id, wanted, id_cursor(cursor), limit + 1, *conditions
    )
    waiting = waiting_jobs(session, rows)
    return page_by_id(rows, limit, lambda row: GateOut.of(row, waiting.get(row.id)))


def _require_reader(principal: Principal, subject_kind: str) -> None:
    if subject_kind == "edit" and not has_scope(principal, EDIT_READ):
        raise InsufficientScope(f"A gate on an edit needs an API key with the scope {EDIT_READ} too.")
