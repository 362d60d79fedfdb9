"""`/v1/score`."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.audits.schemas import AuditOut
from app.audits.service import read_audit
from app.http.changes import Resource
from app.http.dependencies import (
    AuditWriter,
    ChangesDependency,
    DoorbellDependency,
    OptionalIdempotencyKey,
    SettingsDependency,
    StoreDependency,
    read_id,
    require_still,
)
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, wait_until_ended
from app.http.problems import problem_responses
from app.scoring import service
from app.scoring.schemas import ScoreList, ScoreRequest
from app.settings import GPU_QUEUE
from app.store.core.identifiers import Prefix
from app.store.operations import OperationStatus

router = APIRouter(prefix="/v1/score", tags=["scoring"], route_class=StrictJSONRoute)


@router.post(
    "",
    response_model=ScoreList,
    responses=problem_responses(409) | {202: {"model": AuditOut, "description": "Not done in time"}},
)
async def score_texts(
    request: ScoreRequest,
    connection: Request,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    changes: ChangesDependency,
    key: OptionalIdempotencyKey = None,
) -> ScoreList | JSONResponse:
    """Score up to 64 short texts in one request.

    Answers 200 with the scores, or 202 with the audit to follow when it did not succeed within `timeout`
    seconds (its `status` and `error` say why).
    """
    audit = await store.run(service.request_scores, principal, key, request, settings)
    doorbell.ring(GPU_QUEUE)
    identifier = read_id(Prefix.AUDIT, audit.id)
    audit = await wait_until_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(read_audit, principal.tenant_id, identifier),
        seconds=request.timeout,
    )
    await require_still(connection)  # it may have taken long
    if audit.status == OperationStatus.SUCCEEDED:
        return await store.run(service.read_scores, principal.tenant_id, audit)
    answer = JSONResponse(audit.model_dump(mode="json"), status_code=202)
    add_follow_headers(answer, f"/v1/audits/{audit.id}")
    return answer
