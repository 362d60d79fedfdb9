"""Rows that jobs work for, locked until the commit of whoever decides about them."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.core.base import Base
from app.store.jobs.leases import LeaseLost
from app.store.jobs.owners import Owner, owner_of
from app.store.operations import OperationT


def take_active(session: Session, kind: type[OperationT], operation_id: UUID) -> OperationT:
    """An audit or edit that has not ended, locked until the commit.

    The lock leaves room for the foreign keys of rows that other transactions are writing meanwhile.

    Raises:
        LeaseLost: it has ended, so nothing may be committed for it any more.
    """
    row = lock_active(session, owner_of(kind), operation_id)
    if row is None:
        raise LeaseLost
    assert isinstance(row, kind)
    return row


def lock_active(session: Session, owner: Owner, owner_id: UUID) -> Base | None:
    """What jobs work for, locked as `take_active` does; None if it has ended."""
    statement = select(owner.table).where(owner.table.id == owner_id, owner.is_active())
    statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(statement).one_or_none()
