"""The finishing transaction of a job, repeated while the database is away."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from app.store.blobs.full import storage_full_named
from app.store.core.away import database_is_away, others_are_ahead
from app.store.jobs.leases import Lease, take_for_finish
from app.tracing import span
from workers.running.runtime import Runtime

T = TypeVar("T")


def _may_pass(error: BaseException) -> bool:
    """Whether the same transaction may get through a moment later: nothing need be computed again for it."""
    return database_is_away(error) or others_are_ahead(error)


def while_database_is_away(runtime: Runtime) -> Retrying:
    """Repeat a transaction while the database is away or another is ahead.

    For as long as a lease lasts after the first failure: what the transaction took until then says nothing
    of an outage.
    """
    failed_at: list[float] = []

    def gone_on_too_long(state: RetryCallState) -> bool:
        assert state.outcome_timestamp is not None
        failed_at.append(state.outcome_timestamp)
        return state.outcome_timestamp - failed_at[0] >= runtime.settings.lease_seconds

    return Retrying(
        retry=retry_if_exception(_may_pass),
        stop=gone_on_too_long,
        wait=wait_exponential_jitter(multiplier=0.1, max=2),
        reraise=True,
    )


def finish(runtime: Runtime, lease: Lease, write: Callable[[Session], T]) -> T:
    """Write a job's effect and its end in one transaction, or nothing.

    When the database goes away in the middle, the transaction is tried again for as long as a lease lasts.
    Should the first try have been committed without our hearing of it, the second finds the lease gone.

    Raises:
        LeaseLost: the job was taken away, or its effect is committed already.
        StorageFull: the database has no room for it.
    """

    def transaction() -> T:
        with runtime.sessions.begin() as session:
            take_for_finish(session, lease)
            return write(session)

    with span("finish"), storage_full_named():
        return while_database_is_away(runtime)(transaction)
