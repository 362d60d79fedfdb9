"""Files that pages offer: what the API gives for a key, given for a session."""

from typing import Final, Literal

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from app.artifacts.router import download_archive
from app.audits.router import list_scores
from app.evidence.controls import read_control_mappings
from app.evidence.record import SubjectKind
from app.evidence.router import TEXTS_SCOPE
from app.evidence.sending import send_evidence
from app.evidence.service import SUBJECTS, find_format, read_record
from app.http.dependencies import (
    RenderingsDependency,
    SettingsDependency,
    StoreDependency,
    read_id,
    require_scope,
)
from app.pages.page_route import page_router
from app.pages.visitors import AuditVisitor, EditVisitor, Visitor

_EXPORTS: Final = {
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
_KINDS: Final = {
    "audits": SubjectKind.AUDIT,
    "studies": SubjectKind.STUDY,
    "edits": SubjectKind.EDIT,
    "gates": SubjectKind.GATE,
}

router = page_router()


@router.get("/{plural}/{subject}/evidence/{name}")
async def download_evidence(
    plural: Literal["audits", "studies", "edits", "gates"],
    subject: str,
    name: str,
    principal: Visitor,
    store: StoreDependency,
    settings: SettingsDependency,
    renderings: RenderingsDependency,
    texts: Literal["redacted", "full"] = "redacted",
) -> Response:
    """A document of evidence."""
    require_scope(principal, "audit:read")
    if plural == "edits":
        require_scope(principal, "edit:read")
    if texts == "full":
        require_scope(principal, TEXTS_SCOPE)
    kind = _KINDS[plural]
    wanted = find_format(name, kind)
    identifier = read_id(SUBJECTS[kind].prefix, subject)
    controls = await run_in_threadpool(read_control_mappings, settings.control_mappings)
    record = await read_record(store, principal, kind, identifier, controls, texts=texts == "full")
    answer = await send_evidence(
        wanted, record, settings.signing_keys_directory, None, renderings, head=False
    )
    # It may hold texts; no browser keeps them for who uses it next.
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get("/audits/{audit_id}/scores.{suffix}")
async def download_scores(
    audit_id: str,
    suffix: Literal["csv", "jsonl", "parquet"],
    principal: AuditVisitor,
    store: StoreDependency,
) -> Response:
    """All score rows of an audit."""
    answer = await list_scores(audit_id, principal, store, accept=_EXPORTS[suffix])
    assert isinstance(answer, Response)
    answer.headers["Content-Disposition"] = f'attachment; filename="{audit_id}.{suffix}"'
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get("/artifacts/{artifact_id}/archive.tar")
async def download_artifact(artifact_id: str, principal: EditVisitor, store: StoreDependency) -> Response:
    """All files of an edited model."""
    return await download_archive(artifact_id, principal, store)
