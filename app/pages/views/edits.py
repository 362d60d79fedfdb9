"""Edits: the list, and one of them with what it changed, what its search tried, and its receipt."""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.artifacts.schemas import ArtifactOut
from app.artifacts.service import read_artifact
from app.edits import service as edits
from app.edits.schemas import EditOut
from app.errors import NotFound
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
from app.pages.rendering import may, render
from app.pages.views.gates import gates_on
from app.pages.visitors import EditVisitor
from app.store.core.identifiers import Prefix, parse_id
from app.store.operations import OperationFilter, OperationStatus
from app.store.tenants import Principal

_EDITS_A_PAGE: Final = 25

router = page_router()


@dataclass(frozen=True)
class EditView:
    """An edit with all that its page shows."""

    edit: EditOut
    names: Names
    artifact: ArtifactOut | None
    gates: list[GateOut]
    evidence: list[EvidenceFormatOut]


@router.get("/edits")
async def show_edits(
    request: Request,
    principal: EditVisitor,
    store: StoreDependency,
    status: OperationStatus | Literal[""] | None = None,
    cursor: PageCursor = None,
) -> Response:
    """Edits, newest first."""
    wanted = OperationFilter(status=OperationStatus(status) if status else None)
    page, names = await store.run(_read_list, principal, wanted, cursor)
    return render(
        request,
        "edits.html",
        page=page,
        names=names,
        statuses=list(OperationStatus),
        narrowed=status or "",
        here=f"/edits?status={status}" if status else "/edits",
        first=cursor is None,
    )


def _read_list(
    session: Session, principal: Principal, wanted: OperationFilter, cursor: str | None
) -> tuple[Page[EditOut], Names]:
    page = edits.list_page(session, principal, wanted, _EDITS_A_PAGE, cursor)
    return page, find_names(session, principal.tenant_id, [each.model for each in page.data])


@router.get("/edits/{edit_id}/row")
async def show_row(
    request: Request, edit_id: str, principal: EditVisitor, store: StoreDependency
) -> Response:
    """The row of a list for an edit that is under way."""
    edit, names = await store.run(_read, principal, read_id(Prefix.EDIT, edit_id))
    return render(request, "edit_row.html", edit=edit, names=names)


@router.get("/edits/{edit_id}/progress")
async def show_progress(
    request: Request, edit_id: str, principal: EditVisitor, store: StoreDependency
) -> Response:
    """How far an edit has come. When it has ended, its page is loaded anew."""
    edit, _ = await store.run(_read, principal, read_id(Prefix.EDIT, edit_id))
    return render_progress(request, edit, f"/edits/{edit_id}/progress")


@router.get("/edits/{edit_id}")
async def show_edit(
    request: Request, edit_id: str, principal: EditVisitor, store: StoreDependency, signed: Signed
) -> Response:
    """An edit: whether it keeps its limits, what it changed, how it was made, its files and its evidence."""
    view = await store.run(_read_view, principal, read_id(Prefix.EDIT, edit_id), signed)
    return render(request, "edit.html", view=view, edit=view.edit, names=view.names)


def _read(session: Session, principal: Principal, edit_id: UUID) -> tuple[EditOut, Names]:
    edit = edits.read_edit(session, principal, edit_id)
    ids = [edit.model, edit.edited_model, *edit.text_sets.values()]
    if edit.evaluation is not None and edit.evaluation.reference is not None:
        ids.append(edit.evaluation.reference.model)
    return edit, find_names(session, principal.tenant_id, ids)


def _read_view(session: Session, principal: Principal, edit_id: UUID, signed: bool) -> EditView:
    edit, names = _read(session, principal, edit_id)
    artifact = _read_artifact(session, principal, edit)
    # Both hold what audits found.
    if not may(principal, "audit:read"):
        return EditView(edit, names, artifact, [], [])
    evidence = list_formats(session, principal, SubjectKind.EDIT, edit_id, signed=signed)
    return EditView(edit, names, artifact, gates_on(session, principal, edit.id), evidence)


def _read_artifact(session: Session, principal: Principal, edit: EditOut) -> ArtifactOut | None:
    """What the edit wrote, unless that was deleted."""
    artifact_id = parse_id(Prefix.ARTIFACT, edit.artifact) if edit.artifact else None
    try:
        return None if artifact_id is None else read_artifact(session, principal, artifact_id)
    except NotFound:
        return None
