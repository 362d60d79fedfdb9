"""Gates and the policies that they decide by: the lists, and a gate with the reasons of each rule."""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.contracts.policies import PolicyRule
from app.contracts.policies.rule import ROLES
from app.contracts.results.reasons import REASONS
from app.edits.service import read_edit
from app.evidence.record import SubjectKind
from app.evidence.schemas import EvidenceFormatOut
from app.evidence.service import list_formats
from app.gates import service as gates
from app.gates.schemas import GateOut
from app.http.dependencies import PageCursor, StoreDependency, read_id
from app.http.pagination import Page
from app.pages.evidence import Signed
from app.pages.names import Names, title_subjects
from app.pages.page_route import page_router
from app.pages.progress import render_progress
from app.pages.rendering import render
from app.pages.visitors import AuditVisitor
from app.policies.schemas import PolicyOut
from app.policies.service import list_page as list_policies
from app.policies.service import read_policy
from app.policies.shipped import templates
from app.store.core.identifiers import Prefix
from app.store.operations import OperationFilter, OperationStatus
from app.store.tenants import Principal
from app.studies.schemas import StudyOut
from app.studies.service import read_study

_A_PAGE: Final = 25
_MOST_GATES: Final = 20
_PLURALS: Final = {"audit": "audits", "study": "studies", "edit": "edits"}

router = page_router()


@dataclass(frozen=True)
class GateView:
    """A gate with all that its page shows.

    Attributes:
        gate: itself.
        title: of its subject.
        audits: for each rule the audit in which its deciding texts are shown; None where there is not one.
        evidence: the formats of documents.
    """

    gate: GateOut
    title: str
    audits: list[str | None]
    evidence: list[EvidenceFormatOut]


def gates_on(session: Session, principal: Principal, subject: str) -> list[GateOut]:
    """The newest gates on an audit, a study or an edit."""
    page = gates.list_page(
        session, principal, OperationFilter(), _MOST_GATES, None, policy=None, subject=subject
    )
    return page.data


@router.get("/gates")
async def show_gates(
    request: Request,
    principal: AuditVisitor,
    store: StoreDependency,
    status: OperationStatus | Literal[""] | None = None,
    cursor: PageCursor = None,
) -> Response:
    """Gates, newest first, and the policies of the tenant."""
    wanted = OperationFilter(status=OperationStatus(status) if status else None)
    page, policies, titles = await store.run(_read_list, principal, wanted, cursor)
    return render(
        request,
        "gates.html",
        page=page,
        policies=policies,
        titles=titles,
        templates=templates(),
        statuses=list(OperationStatus),
        narrowed=status or "",
        here=f"/gates?status={status}" if status else "/gates",
        first=cursor is None,
    )


def _read_list(
    session: Session, principal: Principal, wanted: OperationFilter, cursor: str | None
) -> tuple[Page[GateOut], Page[PolicyOut], Names]:
    page = gates.list_page(session, principal, wanted, _A_PAGE, cursor, policy=None, subject=None)
    policies = list_policies(session, principal.tenant_id, None, {}, _A_PAGE, None)
    titles = title_subjects(session, principal.tenant_id, [each.subject for each in page.data])
    return page, policies, titles


@router.get("/gates/{gate_id}/row")
async def show_row(
    request: Request, gate_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """The row of a list for a gate that is under way."""
    gate, titles = await store.run(_read, principal, read_id(Prefix.GATE, gate_id))
    return render(request, "gate_row.html", gate=gate, titles=titles)


@router.get("/gates/{gate_id}/progress")
async def show_progress(
    request: Request, gate_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """How far a gate has come. When it has ended, its page is loaded anew."""
    gate, _ = await store.run(_read, principal, read_id(Prefix.GATE, gate_id))
    return render_progress(request, gate, f"/gates/{gate_id}/progress")


@router.get("/gates/{gate_id}")
async def show_gate(
    request: Request, gate_id: str, principal: AuditVisitor, store: StoreDependency, signed: Signed
) -> Response:
    """A gate: each rule with what was observed, its limit, its outcome and the texts that decided it."""
    identifier = read_id(Prefix.GATE, gate_id)
    view = await store.run(_read_view, principal, identifier, signed)
    return render(
        request,
        "gate.html",
        view=view,
        gate=view.gate,
        plural=_PLURALS[view.gate.subject.kind],
        reasons=REASONS,
    )


@router.get("/policies/{policy_id}")
async def show_policy(
    request: Request, policy_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """A policy: its rules and the gates that decided by it."""
    policy, page, titles = await store.run(_read_policy, principal, policy_id)
    return render(request, "policy.html", policy=policy, page=page, titles=titles)


def _read_policy(
    session: Session, principal: Principal, policy_id: str
) -> tuple[PolicyOut, Page[GateOut], Names]:
    policy = read_policy(session, principal.tenant_id, policy_id)
    page = gates.list_page(
        session, principal, OperationFilter(), _MOST_GATES, None, policy=policy.id, subject=None
    )
    return policy, page, title_subjects(session, principal.tenant_id, [each.subject for each in page.data])


def _read(session: Session, principal: Principal, gate_id: UUID) -> tuple[GateOut, Names]:
    gate = gates.read_gate(session, principal, gate_id)
    return gate, title_subjects(session, principal.tenant_id, [gate.subject])


def _read_view(session: Session, principal: Principal, gate_id: UUID, signed: bool) -> GateView:
    gate, titles = _read(session, principal, gate_id)
    return GateView(
        gate=gate,
        title=titles(gate.subject.id),
        audits=[_audit_of_texts(session, principal, gate, each.rule) for each in gate.rules],
        evidence=list_formats(session, principal, SubjectKind.GATE, gate_id, signed=signed),
    )


def _audit_of_texts(session: Session, principal: Principal, gate: GateOut, rule: PolicyRule) -> str | None:
    """The audit whose texts a rule looked at; None where there is not exactly one."""
    kind, public_id = gate.subject.kind, gate.subject.id
    if kind == "audit":
        return public_id
    if kind == "study":
        study = read_study(session, principal.tenant_id, read_id(Prefix.STUDY, public_id))
        return _audit_of_label(study, getattr(rule, "model", None))
    evaluation = read_edit(session, principal, read_id(Prefix.EDIT, public_id)).evaluation
    role = ROLES.get(getattr(rule, "texts", None) or "seen")
    measured = evaluation.sets.get(role) if evaluation and role else None
    return measured.audits.after if measured else None


def _audit_of_label(study: StudyOut, label: str | None) -> str | None:
    """The audit of the language model that a rule names, or of the last."""
    if label is None:
        return study.models[-1].audit
    return next((each.audit for each in study.models if each.label == label), None)
