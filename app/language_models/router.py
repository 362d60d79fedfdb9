"""`/v1/models`."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.contracts.base import CleanStr
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
from app.http.filters import METADATA_PARAMETER, LanguageModelIdQuery, MetadataQuery
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, wait_until_ended
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.language_models import service
from app.language_models.schemas import LanguageModelCreate, LanguageModelOut
from app.settings import GPU_QUEUE
from app.store.core.identifiers import Prefix
from app.store.language_models import LanguageModelStatus

router = APIRouter(prefix="/v1/models", tags=["language models"], route_class=StrictJSONRoute)


@router.post("", status_code=202, responses=problem_responses(409))
async def register_language_model(
    request: LanguageModelCreate,
    key: IdempotencyKey,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    response: Response,
) -> LanguageModelOut:
    """Register a checkpoint. A worker validates and pins it: follow `status` until `ready` or `rejected`."""
    answer = await store.run(service.register, principal, key, request, settings.model_roots)
    doorbell.ring(GPU_QUEUE)
    add_follow_headers(response, f"/v1/models/{answer.id}")
    return answer


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_language_models(
    principal: AuditReader,
    metadata: MetadataQuery,
    store: StoreDependency,
    status: LanguageModelStatus | None = None,
    base_model: LanguageModelIdQuery = None,
    model_repo: Annotated[
        CleanStr | None,
        Query(max_length=300, description="`<tenant>/<name>` of an edited model, as its edit gives it."),
    ] = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[LanguageModelOut]:
    """List language models, newest first; of a status, derived from a base, with some metadata.

    `model_repo` finds an edited model by the name that hub clients know it by.
    """
    return await store.run(
        service.list_page,
        principal,
        limit,
        cursor,
        status=status,
        base_model=base_model,
        model_repo=model_repo,
        metadata=metadata,
    )


@router.get("/{model_id}")
async def read_language_model(
    model_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    wait: WaitSeconds = 0,
) -> LanguageModelOut:
    """Read a language model. With `wait`, the answer comes when it is validated, or after that time."""
    identifier = read_id(Prefix.LANGUAGE_MODEL, model_id)
    return await wait_until_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read, principal.tenant_id, identifier),
        seconds=wait,
    )


@router.delete("/{model_id}", status_code=204, responses=problem_responses(409))
async def forget_language_model(model_id: str, principal: AuditWriter, store: StoreDependency) -> None:
    """Forget a language model. Its finished audits stay; an unfinished one answers 409."""
    await store.run_long(service.forget, principal, read_id(Prefix.LANGUAGE_MODEL, model_id))
