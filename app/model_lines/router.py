"""`/v1/model-lines` and `/v1/model-versions`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.events.following import follow_events
from app.events.service import Scope
from app.http.changes import Resource
from app.http.dependencies import (
    AuditReader,
    AuditWriter,
    ChangesDependency,
    DoorbellDependency,
    IdempotencyKey,
    PageCursor,
    PageLimit,
    SettingsDependency,
    StoreDependency,
    WaitSeconds,
    read_id,
)
from app.http.filters import METADATA_PARAMETER, MetadataQuery, NameQuery
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, answer_when_ended, has_ended
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.model_lines import service
from app.model_lines.registration import register_version
from app.model_lines.schemas import (
    ModelLineCreate,
    ModelLineOut,
    ModelVersionCreate,
    ModelVersionDiff,
    ModelVersionOut,
)
from app.settings import GPU_QUEUE
from app.store.core.identifiers import Prefix
from app.store.operations import OperationStatus

LastEventId = Annotated[str | None, Header(max_length=100)]

router = APIRouter(prefix="/v1", tags=["model lines"], route_class=StrictJSONRoute)


@router.post("/model-lines", status_code=201, responses=problem_responses(409))
async def create_model_line(
    request: ModelLineCreate,
    key: IdempotencyKey,
    principal: AuditWriter,
    store: StoreDependency,
    response: Response,
) -> ModelLineOut:
    """Begin a line of versions of a language model, with the checks that each of them will be judged by."""
    line = await store.run(service.create_line, principal, key, request)
    response.headers["Location"] = f"/v1/model-lines/{line.id}"
    return line


@router.get("/model-lines", openapi_extra=METADATA_PARAMETER)
async def list_model_lines(
    principal: AuditReader,
    store: StoreDependency,
    metadata: MetadataQuery,
    name: NameQuery = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[ModelLineOut]:
    """List model lines, newest first; that of a name, with some metadata."""
    return await store.run(service.list_lines, principal.tenant_id, name, metadata, limit, cursor)


@router.get("/model-lines/{line_id}")
async def read_model_line(line_id: str, principal: AuditReader, store: StoreDependency) -> ModelLineOut:
    """Read a model line."""
    return await store.run(service.read_line, principal.tenant_id, read_id(Prefix.MODEL_LINE, line_id))


@router.post("/model-lines/{line_id}/versions", status_code=202, responses=problem_responses(409))
async def register_model_version(
    line_id: str,
    request: ModelVersionCreate,
    key: IdempotencyKey,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    response: Response,
) -> ModelVersionOut:
    """Register a version: it is audited by the line's checks, compared with the one before and judged."""
    identifier = read_id(Prefix.MODEL_LINE, line_id)
    version = await store.run(register_version, principal, identifier, key, request, settings.model_roots)
    doorbell.ring(GPU_QUEUE)
    add_follow_headers(response, f"/v1/model-versions/{version.id}")
    return version


@router.get("/model-lines/{line_id}/versions", openapi_extra=METADATA_PARAMETER)
async def list_model_versions(
    line_id: str,
    principal: AuditReader,
    store: StoreDependency,
    metadata: MetadataQuery,
    status: OperationStatus | None = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[ModelVersionOut]:
    """List the versions of a line, newest first; of a status, with some metadata."""
    identifier = read_id(Prefix.MODEL_LINE, line_id)
    return await store.run(
        service.list_versions, principal.tenant_id, identifier, status, metadata, limit, cursor
    )


async def _existing_line(line_id: str, principal: AuditReader, store: StoreDependency) -> None:
    """Answer 404 while there is still an answer to give."""
    await store.run(service.read_line, principal.tenant_id, read_id(Prefix.MODEL_LINE, line_id))


@router.get(
    "/model-lines/{line_id}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_existing_line)],
)
async def follow_model_line(
    line_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    last_event_id: LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a line: the events of all its versions, as they come. It does not end.

    Events are those of `/v1/events`; with `Last-Event-ID` only those after that one are sent.
    """
    identifier = read_id(Prefix.MODEL_LINE, line_id)
    events = follow_events(
        changes,
        store,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_line, principal.tenant_id, identifier),
        Scope(principal.tenant_id, line_id=identifier),
        last_event_id=last_event_id,
        is_over=lambda _: False,
    )
    async with aclosing(events):
        async for event in events:
            yield event


@router.get("/model-versions/{version_id}")
async def read_model_version(
    version_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    response: Response,
    wait: WaitSeconds = 0,
) -> ModelVersionOut:
    """Read a version. With `wait`, the answer comes when it has ended, or after that many seconds."""
    identifier = read_id(Prefix.MODEL_VERSION, version_id)
    return await answer_when_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_version, principal.tenant_id, identifier),
        response,
        seconds=wait,
    )


@router.post("/model-versions/{version_id}/cancel", status_code=202, responses=problem_responses(409))
async def cancel_model_version(
    version_id: str, principal: AuditWriter, store: StoreDependency
) -> ModelVersionOut:
    """Cancel a version. It ends at once, and so does what was made for it and has not ended."""
    return await store.run(service.cancel, principal, read_id(Prefix.MODEL_VERSION, version_id))


@router.get("/model-versions/{version_id}/diff", responses=problem_responses(409))
async def read_model_version_diff(
    version_id: str, principal: AuditReader, store: StoreDependency
) -> ModelVersionDiff:
    """Read what changed from the version before: the numbers of each check, and the texts that changed."""
    return await store.run(service.read_diff, principal.tenant_id, read_id(Prefix.MODEL_VERSION, version_id))


async def _existing_version(version_id: str, principal: AuditReader, store: StoreDependency) -> None:
    """Answer 404 while there is still an answer to give."""
    await store.run(service.read_version, principal.tenant_id, read_id(Prefix.MODEL_VERSION, version_id))


@router.get(
    "/model-versions/{version_id}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_existing_version)],
)
async def follow_model_version(
    version_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    last_event_id: LastEventId = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a version: `version.registered`, `gate.passed`, `gate.failed`, …, up to and with its end.

    Events are those of `/v1/events`; with `Last-Event-ID` only those after that one are sent.
    """
    identifier = read_id(Prefix.MODEL_VERSION, version_id)
    events = follow_events(
        changes,
        store,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_version, principal.tenant_id, identifier),
        Scope(principal.tenant_id, version_id=identifier),
        last_event_id=last_event_id,
        is_over=has_ended,
    )
    async with aclosing(events):
        async for event in events:
            yield event
