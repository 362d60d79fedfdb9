"""Readings of work under way: what is committed together with what heartbeats report."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, and_, bindparam, case, exists, func, select
from sqlalchemy.orm import Session

from app.contracts.edit_methods import METHODS
from app.contracts.edit_methods.registry import COLLECTING
from app.errors import NotFound
from app.store.audits import Audit
from app.store.companions import OperationAudit
from app.store.edits import Edit
from app.store.gates import Gate
from app.store.jobs.job import Job, JobState, owned_by
from app.store.jobs.kinds import COLLECT_FACTORS, DERIVE_SHARD, RUN_EDIT, SCORE_SHARD
from app.store.jobs.owners import AUDIT, EDIT
from app.store.operations import OperationStatus
from app.store.text_sets import TextSet

_SHARDS = (SCORE_SHARD.name, DERIVE_SHARD.name)


def _in_flight() -> ScalarSelect[int]:
    """The texts of a running audit in shards that are not committed yet, as their heartbeats report."""
    return (
        select(func.coalesce(func.sum(Job.progress), 0))
        .where(owned_by(AUDIT, Audit.id), Job.kind.in_(_SHARDS), Job.state == JobState.RUNNING)
        .where(Audit.status == OperationStatus.RUNNING)
        .correlate(Audit)
        .scalar_subquery()
    )


def _is_alone() -> ColumnElement[bool]:
    """The condition that an audit has no companions, is none, has no gate and waits for nothing.

    Nor are its texts of an older release, with a digest that is not keyed yet.
    """
    needed = (Audit.id, Audit.language_model_id, Audit.text_set_id)
    waits = (Job.owner_id.in_(needed), Job.state == JobState.QUEUED, Job.waiting_since.is_not(None))
    return and_(
        *(
            ~exists().where(*conditions).correlate(Audit)
            for conditions in (
                (OperationAudit.owner_id == Audit.id,),
                (OperationAudit.audit_id == Audit.id,),
                (Gate.subject_id == Audit.id,),
                waits,
                (TextSet.id == Audit.text_set_id, TextSet.digest_is_keyed.is_(None)),
            )
        )
    )


# Audits are read all the time: it is written once, and one statement says whether any other is needed.
_READING: Final = select(Audit, _in_flight(), _is_alone()).where(
    Audit.id == bindparam("audit_id"), Audit.tenant_id == bindparam("tenant_id")
)


def read_audit_with_progress(session: Session, tenant_id: UUID, audit_id: UUID) -> tuple[Audit, int, bool]:
    """A tenant's audit, how many texts of it are scored in shards not committed yet, and whether it is alone.

    The texts are counted as heartbeats report them. Of an audit that is alone no other table tells anything.
    One statement reads all, so a shard that is committed meanwhile is counted once.

    Raises:
        NotFound: no such audit for this tenant.
    """
    row = session.execute(_READING, {"audit_id": audit_id, "tenant_id": tenant_id}).one_or_none()
    if row is None:
        raise NotFound("There is no such audit.")
    audit, progress, is_alone = row
    return audit, int(progress), is_alone


def read_progress_of_owners(session: Session, owner_ids: Collection[UUID]) -> dict[UUID, tuple[int, int]]:
    """Of the companion audits of each owner together: the texts scored, as heartbeats report too, and all."""
    statement = (
        select(
            OperationAudit.owner_id,
            func.sum(Audit.texts_done + _in_flight()),
            func.sum(Audit.texts_total),
        )
        .join(Audit, Audit.id == OperationAudit.audit_id)
        .where(OperationAudit.owner_id.in_(owner_ids))
        .group_by(OperationAudit.owner_id)
    )
    return {owner_id: (int(done), int(total)) for owner_id, done, total in session.execute(statement)}


def read_edit_with_progress(session: Session, tenant_id: UUID, edit_id: UUID) -> tuple[Edit, int, str | None]:
    """A tenant's edit, and the per cent done and the stage that its workers reported last.

    Raises:
        NotFound: no such edit for this tenant.
    """
    running = owned_by(EDIT, Edit.id) & (Job.kind == RUN_EDIT.name) & (Job.state == JobState.RUNNING)
    statement = (
        select(Edit, Job.progress, Job.stage)
        .outerjoin(Job, running)
        .where(Edit.id == edit_id, Edit.tenant_id == tenant_id)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such edit.")
    edit, progress, stage = row
    if progress is None and edit.status == OperationStatus.RUNNING:
        return edit, *_collected(session, edit)
    return edit, progress or 0, stage


def _collected(session: Session, edit: Edit) -> tuple[int, str | None]:
    """The per cent and the stage of an edit that no worker runs itself: those of its curvature's shards."""
    done = case(
        (Job.state == JobState.SUCCEEDED, 100), (Job.state == JobState.RUNNING, Job.progress), else_=0
    )
    statement = select(func.coalesce(func.avg(done), 0), func.count())
    shards = statement.where(owned_by(EDIT, edit.id), Job.kind == COLLECT_FACTORS.name)
    percent, count = session.execute(shards).one()
    if not count:
        return 0, None
    begin, end = METHODS[edit.spec["method"]].share(COLLECTING)
    return begin + int((end - begin) * percent / 100), COLLECTING
