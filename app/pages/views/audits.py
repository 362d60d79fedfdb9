"""Audits: the list, one of them with its numbers and texts, and what of both changes while they run."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session

from app.audits import scores as score_lists
from app.audits import service as audits
from app.audits.schemas import AuditOut
from app.audits.score_schemas import ScoreOut
from app.contracts.base import CleanStr
from app.contracts.metrics.fields import level_numbers
from app.contracts.metrics.metric import SummaryNumber
from app.contracts.metrics.registry import METRICS
from app.evidence.record import SubjectKind
from app.evidence.schemas import EvidenceFormatOut
from app.evidence.service import list_formats
from app.gates.schemas import GateOut
from app.http.dependencies import PageCursor, StoreDependency, read_id
from app.http.filters import LanguageModelIdQuery
from app.http.pagination import Page
from app.language_models.schemas import LanguageModelOut
from app.language_models.service import list_page as list_language_models
from app.pages.evidence import Signed
from app.pages.names import Names, find_names
from app.pages.page_route import page_router
from app.pages.progress import render_progress
from app.pages.rendering import render
from app.pages.views.gates import gates_on
from app.pages.visitors import AuditVisitor
from app.store.core.identifiers import Prefix, parse_id
from app.store.operations import OperationFilter, OperationStatus
from app.store.scores import ScoreOrder
from app.store.tenants import Principal

_AUDITS_A_PAGE: Final = 25
_TEXTS_A_PAGE: Final = 25
_MODELS_TO_CHOOSE: Final = 100


class TextOrder(StrEnum):
    """In which order, and which of, the texts of an audit are listed."""

    NL_DESCENDING = "-nl"
    NL_ASCENDING = "nl"
    Q_VALUE = "q"
    RECITED = "recited"
    ORDINAL = "ordinal"


_ORDERS: Final = {
    TextOrder.NL_DESCENDING: "most memorized first",
    TextOrder.NL_ASCENDING: "least memorized first",
    TextOrder.Q_VALUE: "least q-value first",
    TextOrder.RECITED: "recited exactly only",
    TextOrder.ORDINAL: "as uploaded",
}

router = page_router()


@dataclass(frozen=True)
class AuditList:
    """A page of audits, and what they can be narrowed by."""

    page: Page[AuditOut]
    models: list[LanguageModelOut]
    names: Names


@dataclass(frozen=True)
class AuditView:
    """An audit with all that its page shows."""

    audit: AuditOut
    names: Names
    scores: Page[ScoreOut] | None
    gates: list[GateOut]
    evidence: list[EvidenceFormatOut]


@router.get("/audits")
async def show_audits(
    request: Request,
    principal: AuditVisitor,
    store: StoreDependency,
    status: OperationStatus | Literal[""] | None = None,
    model: LanguageModelIdQuery | Literal[""] = None,
    cursor: PageCursor = None,
) -> Response:
    """The audits that somebody asked for, newest first."""
    wanted = OperationFilter(
        status=OperationStatus(status) if status else None,
        language_model_id=parse_id(Prefix.LANGUAGE_MODEL, model) if model else None,
    )
    view = await store.run(_read_list, principal, wanted, cursor)
    narrowed = {"status": status or "", "model": model or ""}
    here = f"/audits?{urlencode({name: value for name, value in narrowed.items() if value})}".rstrip("?")
    return render(
        request,
        "audits.html",
        view=view,
        statuses=list(OperationStatus),
        narrowed=narrowed,
        here=here,
        first=cursor is None,
    )


def _read_list(
    session: Session, principal: Principal, wanted: OperationFilter, cursor: str | None
) -> AuditList:
    page = audits.list_page(session, principal.tenant_id, wanted, _AUDITS_A_PAGE, cursor, companions=False)
    models = list_language_models(
        session,
        principal,
        _MODELS_TO_CHOOSE,
        None,
        status=None,
        base_model=None,
        model_repo=None,
        metadata={},
    ).data
    ids = [each.id for each in models]
    ids += [public_id for each in page.data for public_id in (each.model, each.text_set)]
    return AuditList(page, models, find_names(session, principal.tenant_id, ids))


@router.get("/audits/{audit_id}/row")
async def show_row(
    request: Request, audit_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """The row of a list for an audit that is under way."""
    audit, names = await store.run(_read, principal, read_id(Prefix.AUDIT, audit_id))
    return render(request, "audit_row.html", audit=audit, names=names)


@router.get("/audits/{audit_id}/progress")
async def show_progress(
    request: Request, audit_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """How far an audit has come. When it has ended, its page is loaded anew."""
    audit, _ = await store.run(_read, principal, read_id(Prefix.AUDIT, audit_id))
    return render_progress(request, audit, f"/audits/{audit_id}/progress")


@router.get("/audits/{audit_id}")
async def show_audit(
    request: Request,
    audit_id: str,
    principal: AuditVisitor,
    store: StoreDependency,
    signed: Signed,
    sort: TextOrder = TextOrder.NL_DESCENDING,
    group: Annotated[CleanStr | None, Query(max_length=200)] = None,
    cursor: PageCursor = None,
) -> Response:
    """An audit: what it found as a whole, its texts, how it was made, and its evidence."""
    view = await store.run_long(
        _read_view, principal, read_id(Prefix.AUDIT, audit_id), signed, sort, group or None, cursor
    )
    narrowed = {"sort": str(sort), "group": group or ""}
    return render(
        request,
        "audit.html",
        view=view,
        audit=view.audit,
        names=view.names,
        numbers=_numbers(view.audit),
        levels=_level_columns(view.audit),
        groups=_groups(view.audit),
        orders=_orders(view.audit),
        narrowed=narrowed,
        here=f"/audits/{audit_id}?{urlencode(narrowed)}",
        first=cursor is None,
    )


def _read(session: Session, principal: Principal, audit_id: UUID) -> tuple[AuditOut, Names]:
    audit = audits.read_audit(session, principal.tenant_id, audit_id)
    ids = [audit.model, audit.text_set, audit.reference_model, audit.control_text_set]
    return audit, find_names(session, principal.tenant_id, ids)


def _read_view(
    session: Session,
    principal: Principal,
    audit_id: UUID,
    signed: bool,
    sort: TextOrder,
    group: str | None,
    cursor: str | None,
) -> AuditView:
    audit, names = _read(session, principal, audit_id)
    scores = None
    if audit.status == OperationStatus.SUCCEEDED:
        scores = _read_scores(session, principal, audit_id, sort, group, cursor)
    evidence = list_formats(session, principal, SubjectKind.AUDIT, audit_id, signed=signed)
    return AuditView(audit, names, scores, gates_on(session, principal, audit.id), evidence)


def _read_scores(
    session: Session,
    principal: Principal,
    audit_id: UUID,
    sort: TextOrder,
    group: str | None,
    cursor: str | None,
) -> Page[ScoreOut]:
    wanted = (session, principal.tenant_id, audit_id)
    if sort is TextOrder.Q_VALUE:
        return score_lists.scores_by_q_value(*wanted, group=group, limit=_TEXTS_A_PAGE, cursor=cursor)
    if sort is TextOrder.RECITED:
        return score_lists.recited_scores(*wanted, group=group, limit=_TEXTS_A_PAGE, cursor=cursor)
    order = ScoreOrder(sort)
    return score_lists.scores_page(*wanted, order=order, group=group, limit=_TEXTS_A_PAGE, cursor=cursor)


def _orders(audit: AuditOut) -> dict[TextOrder, str]:
    """The orders that an audit has the numbers for."""
    calibration = audit.summary.calibration if audit.summary else None
    absent = set()
    if "extraction" not in audit.metrics:
        absent.add(TextOrder.RECITED)
    if calibration is None or calibration.reason is not None:
        absent.add(TextOrder.Q_VALUE)
    return {order: label for order, label in _ORDERS.items() if order not in absent}


def _numbers(audit: AuditOut) -> list[tuple[SummaryNumber, object]]:
    """The means and shares of a summary that were measured, with their descriptions."""
    found = [
        (number, getattr(audit.summary, number.name, None))
        for metric in METRICS.values()
        for number in metric.numbers
    ]
    return [(number, value) for number, value in found if value is not None]


def _level_columns(audit: AuditOut) -> list[SummaryNumber]:
    """The shares that are known of the levels of a dose-response."""
    levels = audit.summary.dose_response if audit.summary else []
    return [
        number
        for _, number in level_numbers()
        if number.kind == "share" and any(getattr(level, number.name, None) is not None for level in levels)
    ]


def _groups(audit: AuditOut) -> list[str]:
    levels = audit.summary.levels if audit.summary else []
    return sorted({level.group for level in levels if level.group is not None})
