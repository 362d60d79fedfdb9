"""Trying one text: pasted into a form, scored by a warm worker, shown with its tokens."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Form, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.audits.schemas import AuditOut
from app.audits.service import read_audit
from app.contracts.audits import AuditOptions
from app.contracts.refusals import validation_problem
from app.contracts.texts import TextRecord
from app.http.changes import Resource
from app.http.dependencies import (
    ChangesDependency,
    DoorbellDependency,
    SettingsDependency,
    StoreDependency,
    read_id,
    require_scope,
)
from app.http.long_running import wait_until_ended
from app.language_models.schemas import LanguageModelOut
from app.language_models.service import list_page as list_language_models
from app.pages.names import Names, find_names
from app.pages.page_route import page_router, redirect
from app.pages.progress import render_progress
from app.pages.rendering import render
from app.pages.views.texts import TextView, heat_context, read_text
from app.pages.visitors import AuditingVisitor, FromOurPages
from app.scoring.schemas import ScoreRequest
from app.scoring.service import request_scores
from app.settings import GPU_QUEUE
from app.store.core.identifiers import Prefix
from app.store.language_models import LanguageModelStatus
from app.store.operations import OperationStatus
from app.store.tenants import Principal

# Long enough for a model that has to be loaded first; then the page follows the audit.
_WAIT_SECONDS: Final = 15
_MOST_MODELS: Final = 100
_TEXT_ID: Final = "text"
_METRICS: Final = ["nl", "extraction", "p_z"]

PrefixToken = Literal["auto", "bos", "eos", "none"]

router = page_router()


@dataclass(frozen=True)
class TryView:
    """The form, and what became of the text that was tried last."""

    models: list[LanguageModelOut]
    names: Names
    audit: AuditOut | None
    text: TextView | None


@router.get("/try")
async def show_form(
    request: Request, principal: AuditingVisitor, store: StoreDependency, audit: str | None = None
) -> Response:
    """A form for a text, and the numbers of the one that was tried in an audit."""
    identifier = None
    if audit is not None:
        require_scope(principal, "audit:read")
        identifier = read_id(Prefix.AUDIT, audit)
    view = await store.run(_read, principal, identifier)
    heat = heat_context(view.text) if view.text else {}
    return render(request, "try.html", view=view, chosen=view.audit, heat=heat)


@router.get("/try/progress")
async def show_progress(
    request: Request, principal: AuditingVisitor, store: StoreDependency, audit: str
) -> Response:
    """How far it has come. When it has ended, the page is loaded anew."""
    require_scope(principal, "audit:read")
    work = await store.run(read_audit, principal.tenant_id, read_id(Prefix.AUDIT, audit))
    return render_progress(request, work, f"/try/progress?audit={work.id}")


@router.post("/try", dependencies=[FromOurPages])
async def try_text(
    principal: AuditingVisitor,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    changes: ChangesDependency,
    model: Annotated[str, Form(max_length=100)],
    text: Annotated[str, Form()],
    prefix_token: Annotated[PrefixToken, Form()] = "auto",  # noqa: S107 - a token of the vocabulary
) -> Response:
    """Score a text, and wait a little for its numbers."""
    require_scope(principal, "audit:read")
    wanted = _request(model, text, prefix_token)
    audit = await store.run(request_scores, principal, None, wanted, settings)
    doorbell.ring(GPU_QUEUE)
    identifier = read_id(Prefix.AUDIT, audit.id)
    await wait_until_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(read_audit, principal.tenant_id, identifier),
        seconds=_WAIT_SECONDS,
    )
    return redirect(f"/try?audit={audit.id}#result")


def _request(model: str, text: str, prefix_token: PrefixToken) -> ScoreRequest:
    """The form as a request to score.

    Raises:
        ValidationFailed: it breaks the contract.
    """
    # Browsers send every line break of a form as two characters, which nobody wrote.
    plain = text.replace("\r\n", "\n")
    try:
        return ScoreRequest(
            model=model,
            texts=[TextRecord(id=_TEXT_ID, text=plain)],
            metrics=_METRICS,
            options=AuditOptions(prefix_token=prefix_token),
        )
    except ValidationError as error:
        raise validation_problem(error.errors()) from None


def _read(session: Session, principal: Principal, audit_id: UUID | None) -> TryView:
    models = list_language_models(
        session,
        principal,
        _MOST_MODELS,
        None,
        status=LanguageModelStatus.READY,
        base_model=None,
        model_repo=None,
        metadata={},
    ).data
    names = find_names(session, principal.tenant_id, [each.id for each in models])
    if audit_id is None:
        return TryView(models, names, None, None)
    audit = read_audit(session, principal.tenant_id, audit_id)
    text = None
    if audit.status == OperationStatus.SUCCEEDED:
        text = read_text(session, principal, audit_id, _TEXT_ID)
    return TryView(models, names, audit, text)
