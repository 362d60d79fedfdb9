"""Studies: the list, and one of them with its curves, its comparisons and its texts side by side."""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.evidence.record import SubjectKind
from app.evidence.schemas import EvidenceFormatOut
from app.evidence.service import list_formats
from app.gates.schemas import GateOut
from app.http.dependencies import PageCursor, StoreDependency, read_id
from app.http.pagination import Page
from app.pages.evidence import Signed
from app.pages.names import Names, find_names
from app.pages.page_route import page_router
from app.pages.progress import render_progress
from app.pages.rendering import render
from app.pages.views.gates import gates_on
from app.pages.visitors import AuditVisitor
from app.store.core.identifiers import Prefix
from app.store.operations import OperationFilter, OperationStatus
from app.store.tenants import Principal
from app.studies import service as studies
from app.studies.schemas import StudyOut, StudyTextOut

_STUDIES_A_PAGE: Final = 25
_TEXTS_A_PAGE: Final = 25

router = page_router()


@dataclass(frozen=True)
class StudyView:
    """A study with all that its page shows."""

    study: StudyOut
    names: Names
    texts: Page[StudyTextOut] | None
    gates: list[GateOut]
    evidence: list[EvidenceFormatOut]


@router.get("/studies")
async def show_studies(
    request: Request,
    principal: AuditVisitor,
    store: StoreDependency,
    status: OperationStatus | Literal[""] | None = None,
    cursor: PageCursor = None,
) -> Response:
    """Studies, newest first."""
    wanted = OperationFilter(status=OperationStatus(status) if status else None)
    page, names = await store.run(_read_list, principal, wanted, cursor)
    return render(
        request,
        "studies.html",
        page=page,
        names=names,
        statuses=list(OperationStatus),
        narrowed=status or "",
        here=f"/studies?status={status}" if status else "/studies",
        first=cursor is None,
    )


def _read_list(
    session: Session, principal: Principal, wanted: OperationFilter, cursor: str | None
) -> tuple[Page[StudyOut], Names]:
    page = studies.list_page(session, principal.tenant_id, wanted, _STUDIES_A_PAGE, cursor)
    return page, find_names(session, principal.tenant_id, [each.text_set for each in page.data])


@router.get("/studies/{study_id}/row")
async def show_row(
    request: Request, study_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """The row of a list for a study that is under way."""
    study, names = await store.run(_read, principal, read_id(Prefix.STUDY, study_id))
    return render(request, "study_row.html", study=study, names=names)


@router.get("/studies/{study_id}/progress")
async def show_progress(
    request: Request, study_id: str, principal: AuditVisitor, store: StoreDependency
) -> Response:
    """How far a study has come. When it has ended, its page is loaded anew."""
    study, _ = await store.run(_read, principal, read_id(Prefix.STUDY, study_id))
    return render_progress(request, study, f"/studies/{study_id}/progress")


@router.get("/studies/{study_id}")
async def show_study(
    request: Request,
    study_id: str,
    principal: AuditVisitor,
    store: StoreDependency,
    signed: Signed,
    cursor: PageCursor = None,
) -> Response:
    """A study: its curves, what differs between its language models, its texts, and its evidence."""
    view = await store.run_long(_read_view, principal, read_id(Prefix.STUDY, study_id), signed, cursor)
    return render(
        request,
        "study.html",
        view=view,
        study=view.study,
        names=view.names,
        audits={each.label: each.audit for each in view.study.models},
        here=f"/studies/{study_id}",
        first=cursor is None,
    )


def _read(session: Session, principal: Principal, study_id: UUID) -> tuple[StudyOut, Names]:
    study = studies.read_study(session, principal.tenant_id, study_id)
    ids = [study.text_set, study.control_text_set, *(each.model for each in study.models)]
    return study, find_names(session, principal.tenant_id, ids)


def _read_view(
    session: Session, principal: Principal, study_id: UUID, signed: bool, cursor: str | None
) -> StudyView:
    study, names = _read(session, principal, study_id)
    texts = None
    if study.status == OperationStatus.SUCCEEDED:
        texts = studies.texts_page(session, principal.tenant_id, study_id, _TEXTS_A_PAGE, cursor)
    evidence = list_formats(session, principal, SubjectKind.STUDY, study_id, signed=signed)
    return StudyView(study, names, texts, gates_on(session, principal, study.id), evidence)
