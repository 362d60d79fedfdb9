"""`/v1/gates`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.contracts.results.gates import GATE_EVENTS
from app.gates import service
from app.gates.schemas import GateCreate, GateOut
from app.http.changes import Resource
from app.http.dependencies import (
    AuditReader,
    AuditWriter,
    ChangesDependency,
    DoorbellDependency,
    IdempotencyKey,
    PageCursor,
    PageLimit,
    StoreDependency,
    WaitSeconds,
    read_id,
)
from app.http.filters import METADATA_PARAMETER, PolicyIdQuery, SubjectIdQuery, WantedOperations
from app.http.json_body import StrictJSONRoute
from app.http.long_running import add_follow_headers, answer_when_ended, follow
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.settings import CPU_QUEUE
from app.store.core.identifiers import Prefix

router = APIRouter(prefix="/v1/gates", tags=["gates"], route_class=StrictJSONRoute)


@router.post("", status_code=202, responses=problem_responses(409))
async def request_gate(
    request: GateCreate,
    key: IdempotencyKey,
    principal: AuditWriter,
    store: StoreDependency,
    doorbell: DoorbellDependency,
    response: Response,
) -> GateOut:
    """Ask for a gate: a policy judges an audit, a study or an edit once that has succeeded.

    It may be asked for before. A subject that fails or is cancelled fails the gate.
    """
    gate = await store.run(service.request_gate, principal, key, request)
    doorbell.ring(CPU_QUEUE)
    add_follow_headers(response, f"/v1/gates/{gate.id}")
    return gate


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_gates(
    principal: AuditReader,
    wanted: WantedOperations,
    store: StoreDependency,
    policy: PolicyIdQuery = None,
    subject: SubjectIdQuery = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[GateOut]:
    """List gates, newest first; of a policy, on a subject, a language model or texts, with some metadata.

    Those on edits are among them if the key has the scope `edit:read`.
    """
    return await store.run(
        service.list_page, principal, wanted, limit, cursor, policy=policy, subject=subject
    )


@router.get("/{gate_id}")
async def read_gate(
    gate_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    response: Response,
    wait: WaitSeconds = 0,
) -> GateOut:
    """Read a gate. With `wait`, the answer comes when the gate has ended, or after that many seconds.

    One on an edit takes the scope `edit:read` too.
    """
    identifier = read_id(Prefix.GATE, gate_id)
    return await answer_when_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_gate, principal, identifier),
        response,
        seconds=wait,
    )


@router.post("/{gate_id}/cancel", status_code=202, responses=problem_responses(409))
async def cancel_gate(gate_id: str, principal: AuditWriter, store: StoreDependency) -> GateOut:
    """Cancel a gate. It ends at once; its subject goes on."""
    return await store.run(service.cancel, principal, read_id(Prefix.GATE, gate_id))


async def _existing_gate(gate_id: str, principal: AuditReader, store: StoreDependency) -> None:
    """Answer 403 or 404 while there is still an answer to give."""
    await store.run(service.read_gate, principal, read_id(Prefix.GATE, gate_id))


@router.get("/{gate_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_existing_gate)])
async def follow_gate(
    gate_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a gate: an event with the resource at each change, until it has ended.

    An event's name is the status, and at the end of a gate that was decided `gate.passed`, `gate.failed` or
    `gate.inconclusive`. Its id names the state it shows; with `Last-Event-ID` a state that was seen is not
    sent again.
    """
    identifier = read_id(Prefix.GATE, gate_id)
    events = follow(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read_gate, principal, identifier),
        event_id=_event_id,
        seen=last_event_id,
        event=_event,
    )
    async with aclosing(events):
        async for event in events:
            yield event


def _event(gate: GateOut) -> str:
    return gate.status if gate.outcome is None else GATE_EVENTS[gate.outcome]


def _event_id(gate: GateOut) -> str:
    tries = gate.waiting.attempts if gate.waiting else 0
    return f"{gate.status}-{gate.progress.done}-{tries}"
