"""Who is told of an end: what waits for it goes on if that was the last, or has to end with it.

An audit, a study or an edit may be what a gate judges; an audit may be the companion of a study or of another
audit; all of them but edits, and gates, may be parts of a version of a model line, which ends with the last.
Those who have to end are named, and `lifecycle.end` ends them.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.results.gates import overall
from app.errors import CompanionFailed, SubjectFailed, VersionIncomplete
from app.store.companions import OperationAudit, find_untold_owners, first_broken, owners_of
from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, format_id
from app.store.enqueueing import enqueue_finishing
from app.store.gates import SUBJECTS, Gate
from app.store.gating import subject_of, take_waiting_gates, untold_gates
from app.store.jobs.owners import AUDIT, GATE, MODEL_VERSION, OWNERS, Owner
from app.store.model_lines import ModelVersion
from app.store.operations import ACTIVE, OperationStatus
from app.store.taking import lock_active
from app.store.version_parts import Part, parts_of, untold_versions, versions_of


class Ending(NamedTuple):
    """What has to end: as failed with its error, else as succeeded with what was found."""

    owner: Owner
    owner_id: UUID
    error: JSONObject | None
    findings: Mapping[str, object] = MappingProxyType({})


def tell_waiting(
    session: Session, owner: Owner, owner_id: UUID, status: OperationStatus, error: JSONObject | None
) -> Iterator[Ending]:
    """Let what waits for something go on; give what cannot.

    Each that waits is locked, so that of two companions that end at once the second sees what became of the
    first. Each is ended before the next is looked at.
    """
    if owner is AUDIT:
        yield from _tell_owners(session, owner_id, status, error)
    if owner.kind in SUBJECTS:
        for gate in take_waiting_gates(session, owner_id):
            yield from _tell_gate(session, gate, status, error)
    for version_id in versions_of(session, owner, owner_id):
        yield from _settle_version(session, version_id)


def tell_late(session: Session, owner: Owner, owner_id: UUID) -> Iterator[Ending]:
    """Do for what was not told what the end of what it waits for should have done."""
    row = lock_active(session, owner, owner_id)
    if row is None:
        return
    if isinstance(row, Gate):
        subject = subject_of(session, row)
        yield from _tell_gate(session, row, OperationStatus(subject.status), subject.error)
        return
    if isinstance(row, ModelVersion):
        yield from _settle_version(session, row.id)
        return
    broken = first_broken(session, owner_id)
    if broken is None:
        enqueue_finishing(session, owner, row)
    else:
        link, audit = broken
        yield _failed_companion(owner, link, OperationStatus(audit.status), audit.error)


def find_untold(session: Session) -> list[tuple[Owner, UUID]]:
    """What nobody told of the end of what it waits for, as an older release does not."""
    gates = ((GATE, gate_id) for gate_id in untold_gates(session))
    versions = ((MODEL_VERSION, version_id) for version_id in untold_versions(session))
    return [*find_untold_owners(session), *gates, *versions]


def _tell_owners(
    session: Session, audit_id: UUID, status: OperationStatus, error: JSONObject | None
) -> Iterator[Ending]:
    for link in owners_of(session, audit_id):
        owner = OWNERS.get(link.owner_kind)
        if owner is None or owner is MODEL_VERSION:  # a version is told after all who serve it
            continue
        row = lock_active(session, owner, link.owner_id)
        if row is None:
            continue
        if status == OperationStatus.SUCCEEDED:
            enqueue_finishing(session, owner, row)
        else:
            yield _failed_companion(owner, link, status, error)


def _tell_gate(
    session: Session, gate: Gate, status: OperationStatus, error: JSONObject | None
) -> Iterator[Ending]:
    if status == OperationStatus.SUCCEEDED:
        enqueue_finishing(session, GATE, gate)
    else:
        subject = f"The {gate.subject_kind} {gate.public_subject_id}, which this judges,"
        yield Ending(GATE, gate.id, SubjectFailed(_became(subject, status, error)).problem())


def _settle_version(session: Session, version_id: UUID) -> Iterator[Ending]:
    """End a version once none of its parts is open. Its outcome is that of all its gates; none is null."""
    if lock_active(session, MODEL_VERSION, version_id) is None:
        return
    parts = parts_of(session, version_id)
    if any(part.status in ACTIVE for part in parts):
        return
    broken = [part for part in parts if part.status != OperationStatus.SUCCEEDED]
    if broken:
        yield Ending(MODEL_VERSION, version_id, _incomplete(min(broken, key=lambda part: part.finished_at)))
        return
    outcomes = [part.outcome for part in parts if part.outcome is not None]
    found = {"outcome": overall(outcomes) if outcomes else None}
    yield Ending(MODEL_VERSION, version_id, None, found)


def _incomplete(part: Part) -> JSONObject:
    what = f"The {part.kind} {part.public_id}, a part of this version,"
    return VersionIncomplete(_became(what, OperationStatus(part.status), part.error)).problem()


def _failed_companion(
    owner: Owner, link: OperationAudit, status: OperationStatus, error: JSONObject | None
) -> Ending:
    audit = f"The audit {format_id(Prefix.AUDIT, link.audit_id)} (role {link.role}), which this needs,"
    return Ending(owner, link.owner_id, CompanionFailed(_became(audit, status, error)).problem())


def _became(what: str, status: OperationStatus, error: JSONObject | None) -> str:
    """What became of something, for whoever reads that what waited for it failed."""
    return f"{what} {status}: {error['detail']}" if error else f"{what} was {status}."
