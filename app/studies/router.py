"""`/v1/studies`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

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
    WaitSeconds,
    WorkKey,
    read_id,
)
from app.http.filters import METADATA_PARAMETER, WantedOperations
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, answer_when_ended, follow
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.settings import GPU_QUEUE
from app.store.core.identifiers import Prefix
from app.studies import service
from app.studies.schemas import StudyCreate, StudyOut, StudyTextOut

router = APIRouter(prefix="/v1/studies", tags=["studies"], route_class=StrictJSONRoute)


@router.post("", status_code=202, response_model=StudyOut, responses=problem_responses(409) | ESTIMATE)
async def request_study(
    request: StudyCreate,
    principal: AuditWriter,
    key: WorkKey,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    response: Response,
) -> StudyOut | JSONResponse:
    """Request a study: a text set is scored under several language models, which are then compared."""
    if key is None:
        return estimated(await store.run(service.estimate, principal, request, settings))
    study = await store.run(service.request_study, principal, key, request, settings.model_roots)
    doorbell.ring(GPU_QUEUE)
    add_follow_headers(response, f"/v1/studies/{study.id}")
    return study


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_studies(
    principal: AuditReader,
    wanted: WantedOperations,
    store: StoreDependency,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[StudyOut]:
    """List studies, newest first; of a language model, a text set, a status, with some metadata."""
    return await store.run(service.list_page, principal.tenant_id, wanted, limit, cursor)


@router.get("/{study_id}")
async def read_study(
    study_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    response: Response,
    wait: WaitSeconds = 0,
) -> StudyOut:
    """Read a study. With `wait`, the answer comes when the study has ended, or after that many seconds."""
    identifier = read_id(Prefix.STUDY, study_id)
    return await answer_when_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_study, principal.tenant_id, identifier),
        response,
        seconds=wait,
    )


@router.post("/{study_id}/cancel", status_code=202, responses=problem_responses(409))
async def cancel_study(study_id: str, principal: AuditWriter, store: StoreDependency) -> StudyOut:
    """Cancel a study. It ends at once, and so do its audits that are open and that nothing else waits for."""
    return await store.run(service.cancel, principal, read_id(Prefix.STUDY, study_id))


async def _existing_study(study_id: str, principal: AuditReader, store: StoreDependency) -> None:
    """Answer 404 while there is still an answer to give."""
    await store.run(service.read_study, principal.tenant_id, read_id(Prefix.STUDY, study_id))


@router.get("/{study_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_existing_study)])
async def follow_study(
    study_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a study: an event with the resource at each change, until it has ended.

    An event's id names the state it shows; with `Last-Event-ID` a state that was seen is not sent again.
    """
    identifier = read_id(Prefix.STUDY, study_id)
    events = follow(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_study, principal.tenant_id, identifier),
        event_id=_event_id,
        seen=last_event_id,
    )
    async with aclosing(events):
        async for event in events:
            yield event


@router.get("/{study_id}/texts", responses=problem_responses(409))
async def list_texts(
    study_id: str,
    principal: AuditReader,
    store: StoreDependency,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: PageCursor = None,
) -> Page[StudyTextOut]:
    """List the texts of a study that has succeeded, each under all its language models."""
    identifier = read_id(Prefix.STUDY, study_id)
    return await store.run_long(service.texts_page, principal.tenant_id, identifier, limit, cursor)


def _event_id(study: StudyOut) -> str:
    tries = study.waiting.attempts if study.waiting else 0
    return f"{study.status}-{study.progress.done}-{tries}"
