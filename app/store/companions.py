"""Companion audits: ordinary audits that something else waits for, as its finishing job makes use of them.

An audit waits for those of its control texts and of its reference model, a study for one of each of its
language models, a version of a model line for those of its checks. What waits is called an owner here;
`lifecycle` keeps the rule by which it ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Exists,
    ForeignKey,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    exists,
    or_,
    select,
)
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from app.store.audits import Audit
from app.store.core.base import Base
from app.store.core.identifiers import Prefix, format_id
from app.store.jobs.job import Job, JobState
from app.store.jobs.owners import AUDIT, MODEL_VERSION, OWNERS, STUDY, Owner
from app.store.operations import OperationStatus, is_active


class CompanionRole(StrEnum):
    """What an audit's companions are to it."""

    CONTROL = "control"  # the same language model on the control texts
    REFERENCE = "reference"  # the reference model on the same texts
    REFERENCE_CONTROL = "reference_control"  # the reference model on the control texts


_PREFIXES: Final = {
    AUDIT.kind: Prefix.AUDIT,
    STUDY.kind: Prefix.STUDY,
    MODEL_VERSION.kind: Prefix.MODEL_VERSION,
}


# How a companion ends that its owner cannot do with.
_BROKEN: Final = (OperationStatus.FAILED, OperationStatus.CANCELLED)


class OperationAudit(Base):
    """That something waits for an audit: in which role and, where several have the same, at which place."""

    __tablename__ = "operation_audits"

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, default=0)
    owner_kind: Mapped[str] = mapped_column(Text)
    audit_id: Mapped[UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), index=True)


def link_audit(
    session: Session, owner: Owner, owner_id: UUID, audit: Audit, role: str, position: int = 0
) -> None:
    """Let something wait for an audit, which the same transaction has made or keeps from ending."""
    session.add(
        OperationAudit(
            owner_kind=owner.kind, owner_id=owner_id, role=role, position=position, audit_id=audit.id
        )
    )


@dataclass(frozen=True, slots=True)
class Companion:
    """An audit in its role for an owner: what it scores, and where it stands."""

    owner_id: UUID
    role: str
    position: int
    audit_id: UUID
    text_set_id: UUID
    language_model_id: UUID
    status: str


def companions_of(session: Session, owner_ids: Iterable[UUID]) -> dict[UUID, list[Companion]]:
    """The companions of each owner by role and place; none is an empty list."""
    found: dict[UUID, list[Companion]] = {owner_id: [] for owner_id in owner_ids}
    link = OperationAudit
    statement = (
        select(
            link.owner_id,
            link.role,
            link.position,
            Audit.id,
            Audit.text_set_id,
            Audit.language_model_id,
            Audit.status,
        )
        .join(Audit, Audit.id == link.audit_id)
        .where(link.owner_id.in_(found))
        .order_by(link.role, link.position)
    )
    for row in session.execute(statement):
        companion = Companion(*row)
        found[companion.owner_id].append(companion)
    return found


def companion_audits(session: Session, owner_id: UUID) -> list[tuple[str, Audit]]:
    """The companions of an owner themselves, each in its role, in the order of `companions_of`."""
    statement = (
        select(OperationAudit.role, Audit)
        .join(Audit, Audit.id == OperationAudit.audit_id)
        .where(OperationAudit.owner_id == owner_id)
        .order_by(OperationAudit.role, OperationAudit.position)
    )
    return [(role, audit) for role, audit in session.execute(statement)]


def have_succeeded(session: Session, owner_id: UUID) -> bool:
    """Whether all companions of an owner have succeeded. The caller holds its row."""
    unfinished = exists().where(
        OperationAudit.owner_id == owner_id,
        OperationAudit.audit_id == Audit.id,
        Audit.status != OperationStatus.SUCCEEDED,
    )
    return not session.scalar(select(unfinished))


def owners_of(session: Session, audit_id: UUID) -> Sequence[OperationAudit]:
    """Who waits for an audit, in the order in which their rows are locked."""
    statement = select(OperationAudit).where(OperationAudit.audit_id == audit_id)
    return session.scalars(statement.order_by(OperationAudit.owner_id)).all()


def owners_by_audit(session: Session, audit_ids: Iterable[UUID]) -> dict[UUID, list[str]]:
    """The public ids of what each audit was made for, oldest first; none is an empty list."""
    found: dict[UUID, list[str]] = {audit_id: [] for audit_id in audit_ids}
    statement = (
        select(OperationAudit.audit_id, OperationAudit.owner_kind, OperationAudit.owner_id)
        .where(OperationAudit.audit_id.in_(found))
        .order_by(OperationAudit.owner_id)
    )
    for audit_id, kind, owner_id in session.execute(statement):
        if kind in _PREFIXES:
            found[audit_id].append(format_id(_PREFIXES[kind], owner_id))
    return found


def is_companion() -> Exists:
    """The condition that an audit was made for something else."""
    return exists().where(OperationAudit.audit_id == Audit.id)


def take_owners(session: Session, audit_ids: Select[UUID]) -> None:
    """Lock what waits for some audits and has not ended: by kind, then by id.

    Every transaction that ends an audit takes its owners before it, so that none waits for the other in turn.
    """
    take_heads(session, audit_ids)
    _take_owners_of_kind(session, AUDIT, audit_ids)


def take_heads(session: Session, audit_ids: Select[UUID]) -> None:
    """Lock the versions and the studies that wait for some audits, which no audit waits for in turn.

    Whoever registers a version holds the one before it. So that is taken first, and those that came meanwhile
    after it.
    """
    for owner in (MODEL_VERSION, MODEL_VERSION, STUDY):
        _take_owners_of_kind(session, owner, audit_ids)


def _take_owners_of_kind(session: Session, owner: Owner, audit_ids: Select[UUID]) -> None:
    link, table = OperationAudit, owner.table
    waiting = select(link.owner_id).where(link.audit_id.in_(audit_ids), link.owner_kind == owner.kind)
    statement = select(table.id).where(table.id.in_(waiting), owner.is_active()).order_by(table.id)
    session.execute(statement.with_for_update(key_share=True))


def find_untold_owners(session: Session) -> list[tuple[Owner, UUID]]:
    """The owners that nobody told of the end of their companions, as an older release does not."""
    found = []
    for owner in (STUDY, AUDIT):
        table = aliased(owner.table)
        links = exists().where(
            OperationAudit.owner_id == table.id,
            OperationAudit.owner_kind == owner.kind,
            OperationAudit.audit_id == Audit.id,
        )
        broken = links.where(Audit.status.in_(_BROKEN))
        done = ~links.where(Audit.status != OperationStatus.SUCCEEDED)
        done = and_(done, ~is_being_finished(owner, table.id))
        statement = select(table.id).where(table.status.in_(owner.active), links, or_(broken, done))
        rows = session.scalars(statement.order_by(table.id)).all()
        found += [(owner, row_id) for row_id in rows]
    return found


def has_finishing_job(session: Session, owner: Owner, owner_id: UUID) -> bool:
    """Whether the job that ends an owner was added. The caller holds the owner's row."""
    return bool(session.scalar(select(is_being_finished(owner, owner_id))))


def is_being_finished(owner: Owner, owner_id: UUID | SQLColumnExpression[UUID]) -> Exists:
    """The condition that the job that ends an owner was added."""
    return exists().where(Job.owner_id == owner_id, Job.kind == owner.finished_by)


def first_broken(session: Session, owner_id: UUID) -> tuple[OperationAudit, Audit] | None:
    """A companion of an owner that failed or was cancelled, and as what the owner waits for it."""
    statement = (
        select(OperationAudit, Audit)
        .join(Audit, Audit.id == OperationAudit.audit_id)
        .where(
            OperationAudit.owner_id == owner_id,
            Audit.status.in_(_BROKEN),
        )
        .order_by(Audit.finished_at)
        .limit(1)
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else (row[0], row[1])


def take_unwanted_companions(session: Session, owner_id: UUID) -> Sequence[UUID]:
    """The open companions of an owner that ended for which nothing else waits, locked until the commit.

    Those whose row another transaction holds are passed over: it may be waiting for the owner's. Should they
    still be open after it, `take_forsaken` finds them.
    """
    mine = select(OperationAudit.audit_id).where(OperationAudit.owner_id == owner_id)
    return _take(session, and_(Audit.id.in_(mine), ~_is_waited_for()))


def take_forsaken(session: Session) -> Sequence[UUID]:
    """The companions with a queued job whose owners have all ended, locked until the commit."""
    queued = select(Job.owner_id).where(Job.state == JobState.QUEUED, Job.owner_kind == AUDIT.kind)
    linked = exists().where(OperationAudit.audit_id == Audit.id)
    return _take(session, and_(Audit.id.in_(queued), linked, ~_is_waited_for()))


def _take(session: Session, condition: ColumnElement[bool]) -> Sequence[UUID]:
    statement = select(Audit.id).where(condition, is_active(Audit)).order_by(Audit.id)
    return session.scalars(statement.with_for_update(of=Audit, skip_locked=True, key_share=True)).all()


def is_needed_by_an_owner(text_set_id: UUID | SQLColumnExpression[UUID]) -> Exists:
    """The condition that an unfinished owner still needs the texts that a companion of its scored."""
    return exists().where(
        OperationAudit.audit_id == Audit.id, Audit.text_set_id == text_set_id, _has_active_owner()
    )


def _is_waited_for() -> ColumnElement[bool]:
    """The condition that an owner of an audit has not ended."""
    return exists().where(OperationAudit.audit_id == Audit.id, _has_active_owner())


def _has_active_owner() -> ColumnElement[bool]:
    """The condition that the owner of a link has not ended. Of a kind that is not known here it holds."""
    conditions: list[ColumnElement[bool]] = [OperationAudit.owner_kind.not_in(OWNERS)]
    for owner in OWNERS.values():
        table = aliased(owner.table)
        active = exists().where(table.id == OperationAudit.owner_id, table.status.in_(owner.active))
        conditions.append(and_(OperationAudit.owner_kind == owner.kind, active))
    return or_(*conditions)
