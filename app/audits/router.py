"""`/v1/audits`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.audits import scores, service
from app.audits.export import EXPORT_MEDIA_TYPES, choose_export, stream_scores
from app.audits.schemas import AuditCreate, AuditOut
from app.audits.score_schemas import ScoreOut, TokenEvidenceOut
from app.contracts.base import CleanStr
from app.contracts.texts import TextId
from app.errors import FieldError, ValidationFailed
from app.estimates.answers import ESTIMATE, estimated
from app.http.changes import Resource
from app.http.dependencies import (
    AuditReader,
    AuditWriter,
    ChangesDependency,
    DoorbellDependency,
    PageCursor,
    PageLimit,
    SettingsDependency,
    StoreDependency,
    TokenTurnsDependency,
    WaitSeconds,
    WorkKey,
    read_id,
)
from app.http.filters import METADATA_PARAMETER, WantedOperations
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, answer_when_ended, follow
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.settings import CPU_QUEUE, GPU_QUEUE
from app.store.core.identifiers import Prefix
from app.store.core.unit_of_work import Store
from app.store.scores import ScoreOrder
from app.store.tenants import Principal

_SCORES_A_PAGE: Final = 100

router = APIRouter(prefix="/v1/audits", tags=["audits"], route_class=StrictJSONRoute)


@router.post("", status_code=202, response_model=AuditOut, responses=problem_responses(409) | ESTIMATE)
async def request_audit(
    request: AuditCreate,
    principal: AuditWriter,
    key: WorkKey,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    response: Response,
) -> AuditOut | JSONResponse:
    """Request an audit: every text of a text set, or of a preset, is scored under a language model."""
    if key is None:
        return estimated(await store.run(service.estimate, principal, request, settings))
    audit = await store.run(service.request_audit, principal, key, request, settings.model_roots)
    if request.preset is not None:
        doorbell.ring(CPU_QUEUE)
    doorbell.ring(GPU_QUEUE)
    add_follow_headers(response, f"/v1/audits/{audit.id}")
    return audit


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_audits(
    principal: AuditReader,
    wanted: WantedOperations,
    store: StoreDependency,
    companions: Annotated[
        bool, Query(description="Whether to list audits that were made for another audit or a study.")
    ] = True,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[AuditOut]:
    """List audits, newest first; of a language model, a text set, a status, with some metadata."""
    return await store.run(
        service.list_page, principal.tenant_id, wanted, limit, cursor, companions=companions
    )


@router.get("/{audit_id}")
async def read_audit(
    audit_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    response: Response,
    wait: WaitSeconds = 0,
) -> AuditOut:
    """Read an audit. With `wait`, the answer comes when the audit has ended, or after that many seconds."""
    identifier = read_id(Prefix.AUDIT, audit_id)
    return await answer_when_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.look(service.read_audit, principal.tenant_id, identifier),
        response,
        seconds=wait,
    )


@router.post("/{audit_id}/cancel", status_code=202, responses=problem_responses(409))
async def cancel_audit(audit_id: str, principal: AuditWriter, store: StoreDependency) -> AuditOut:
    """Cancel an audit. It ends at once: nothing that a worker still computes for it is stored."""
    return await store.run(service.cancel, principal, read_id(Prefix.AUDIT, audit_id))


async def _existing_audit(audit_id: str, principal: AuditReader, store: StoreDependency) -> None:
    """Answer 404 while there is still an answer to give."""
    await store.look(service.read_audit, principal.tenant_id, read_id(Prefix.AUDIT, audit_id))


@router.get("/{audit_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_existing_audit)])
async def follow_audit(
    audit_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow an audit: an event with the resource at each change, until it has ended.

    An event's id names the state it shows; with `Last-Event-ID` a state that was seen is not sent again.
    """
    identifier = read_id(Prefix.AUDIT, audit_id)
    events = follow(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.look(service.read_audit, principal.tenant_id, identifier),
        event_id=_event_id,
        seen=last_event_id,
    )
    async with aclosing(events):
        async for event in events:
            yield event


_EXPORTS = {
    media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in EXPORT_MEDIA_TYPES
}


@router.get(
    "/{audit_id}/scores",
    response_model=Page[ScoreOut],
    responses=problem_responses(409) | {200: {"content": _EXPORTS}},
)
async def list_scores(
    audit_id: str,
    principal: AuditReader,
    store: StoreDependency,
    sort: ScoreOrder = ScoreOrder.ORDINAL,
    group: Annotated[CleanStr | None, Query(max_length=200)] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="100 unless given.")] = None,
    cursor: PageCursor = None,
    accept: Annotated[str, Header()] = "application/json",
) -> Page[ScoreOut] | Response:
    """List scores. With `Accept: application/jsonl`, `text/csv` or Parquet, all rows are streamed instead.

    JSON lines and Parquet are exact. In CSV a `text_id` or `group` that a spreadsheet would take for a
    formula (it begins with `=`, `+`, `-`, `@`, a tab or a line break) gets a single quote in front.
    """
    identifier = read_id(Prefix.AUDIT, audit_id)
    media_type = choose_export(accept)
    if media_type is not None:
        refused = {
            "/sort": sort is not ScoreOrder.ORDINAL,
            "/limit": limit is not None,
            "/cursor": cursor is not None,
        }
        errors = [FieldError(pointer, "not_for_exports") for pointer, given in refused.items() if given]
        if errors:
            raise ValidationFailed("An export holds all rows in the order of the texts.", errors)
        return await _export(store, principal, identifier, media_type, group)
    return await store.run(
        scores.scores_page,
        principal.tenant_id,
        identifier,
        order=sort,
        group=group,
        limit=limit or _SCORES_A_PAGE,
        cursor=cursor,
    )


async def _export(
    store: Store, principal: Principal, identifier: UUID, media_type: str, group: str | None
) -> Response:
    audit = await store.run(scores.take_export, principal, identifier, media_type)
    return StreamingResponse(stream_scores(store, audit, media_type, group), media_type=media_type)


@router.get(
    "/{audit_id}/scores/{text_id}/tokens", response_model=TokenEvidenceOut, responses=problem_responses(409)
)
async def read_tokens(
    audit_id: str,
    text_id: TextId,
    principal: AuditReader,
    store: StoreDependency,
    turns: TokenTurnsDependency,
) -> StreamingResponse:
    """Read the evidence of one text: its tokens with log-likelihood and rank."""
    tokens = await store.run(scores.read_tokens, principal, read_id(Prefix.AUDIT, audit_id), text_id)
    return StreamingResponse(tokens.answer(turns), media_type="application/json")


def _event_id(audit: AuditOut) -> str:
    tries = audit.waiting.attempts if audit.waiting else 0
    return f"{audit.status}-{audit.progress.done}-{tries}"
