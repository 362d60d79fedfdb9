"""The end of an attempt without a result: its job waits for what is away, is tried again, or is given up."""

from contextlib import suppress
from typing import Final

import structlog
from sqlalchemy.orm import Session

from app.errors import JobFailed
from app.store.counters import of_retry
from app.store.jobs.leases import Lease, LeaseLost, postpone, requeue
from app.store.lifecycle import fail_job
from app.tracing import note
from workers.running.finishing import while_database_is_away
from workers.running.runtime import Runtime

log = structlog.get_logger()

LONGEST_PAUSE_SECONDS: Final = 120.0
GIVEN_UP: Final = "given_up"


def end_attempt(runtime: Runtime, lease: Lease, failure: JobFailed) -> None:
    """Let a job wait for what is away, queue it again if another attempt could help, or give it up.

    When the database stays away for as long as a lease lasts, the job is left to its lease.

    Raises:
        SQLAlchemyError: the database is still away, or refuses.
    """

    def transaction() -> str:
        with runtime.sessions.begin() as session:
            return _decide(session, runtime, lease, failure)

    with suppress(LeaseLost):
        outcome = while_database_is_away(runtime)(transaction)
        if outcome != GIVEN_UP:
            runtime.counts.add(of_retry(lease.kind, failure.slug))
        note(outcome=outcome, problem=failure.slug)
        log.warning(
            "attempt_ended",
            job=str(lease.job_id),
            problem=failure.slug,
            detail=failure.detail,
            outcome=outcome,
        )


def _decide(session: Session, runtime: Runtime, lease: Lease, failure: JobFailed) -> str:
    settings = runtime.settings
    problem = failure.problem()
    if failure.transient:
        waits, waited = (lease.waits, lease.waited_seconds) if lease.has_waited_for(problem) else (0, 0.0)
        # An outage is not called long before it was seen a few times: the job may have waited for a worker.
        if waited < settings.outage_seconds or waits < settings.max_attempts:
            postpone(session, lease, problem, delay_seconds=pause(settings.retry_seconds, waits))
            return "waits"
        tries = f"It was tried {waits + 1} times, the last time {waited:.0f} seconds after the first."
        problem["detail"] = f"{failure.detail} {tries}"
    elif failure.retryable and lease.attempts < settings.max_attempts:
        requeue(session, lease, problem, delay_seconds=pause(settings.retry_seconds, lease.attempts - 1))
        return "tried_again"
    fail_job(session, lease, problem, failure.findings)
    return GIVEN_UP


def pause(first_seconds: float, earlier: int) -> float:
    """Seconds until the next try after `earlier` pauses: each is twice as long as the last, up to a limit."""
    return min(first_seconds * 2.0 ** min(earlier, 30), LONGEST_PAUSE_SECONDS)
