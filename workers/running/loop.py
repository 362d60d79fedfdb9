"""Claim jobs and run them until none is left. Every way in which a job can end is here."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.synchronize import Event as SharedEvent
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy.exc import SQLAlchemyError

from app.errors import JobCrashed, JobFailed, ServiceUnavailable
from app.settings import SERVED_BY, Queue
from app.store.blobs.full import storage_full_named
from app.store.core.away import database_is_away
from app.store.counters import of_claim, of_lost_lease, of_retry
from app.store.jobs.claiming import claim
from app.store.jobs.kinds import KINDS
from app.store.jobs.leases import Lease, LeaseLost, close_cancelled, release, was_given_to_another
from app.store.throughput import MeasuredJob
from app.tracing import note, span
from workers.running.attempts import end_attempt
from workers.running.device import DeviceBroken, device_answers, device_is_broken
from workers.running.handlers import handler_of
from workers.running.lease_keeper import LeaseKeeper, Stopping
from workers.running.runtime import Runtime
from workers.running.throughput import record

log = structlog.get_logger()

# Why a job is tried again that its worker has handed back.
WORKER_STOPPED: Final = "worker-stopped"


def run_jobs_until_idle(
    runtime: Runtime, stopping: SharedEvent, *, queue: Queue, ring_for_others: Callable[[Queue, int], None]
) -> None:
    """Run jobs until none is claimable, the worker is asked to stop, or the database is away or refuses.

    Args:
        runtime: this process.
        stopping: set when the worker was asked to stop.
        queue: the class of this worker.
        ring_for_others: rings for other workers, given a queue and how many jobs wait there for them.

    Raises:
        DeviceBroken: this process can run no job any more.
    """
    while not stopping.is_set():
        try:
            runtime.meter.begin()
            lease = _claim(runtime, queue)
            if lease is None:
                return
            enqueued = run_job(runtime, lease, stopping)
        except SQLAlchemyError as error:
            # Leases run out by themselves and the sweeper rings again.
            log.warning("database_failed", error=type(error).__name__)
            return
        runtime.turns.job_ended()
        if enqueued:
            _ring(lease, enqueued, queue, ring_for_others)


def _ring(lease: Lease, enqueued: int, queue: Queue, ring_for_others: Callable[[Queue, int], None]) -> None:
    """Ring for the jobs that a job has enqueued, but for the one that this process can take itself."""
    for theirs in KINDS[lease.kind].enqueues:
        times = enqueued - (theirs in SERVED_BY[queue])
        if times:
            ring_for_others(theirs, times)


def _claim(runtime: Runtime, queue: Queue) -> Lease | None:
    with runtime.sessions.begin() as session:
        lease = claim(
            session,
            queue=queue,
            worker=runtime.name,
            lease_seconds=runtime.settings.lease_seconds,
            loaded=runtime.turns.preferred(runtime.loaded),
            served=runtime.turns.served,
            last=runtime.turns.last,
        )
    if lease is not None:
        runtime.turns.serve(lease)
        runtime.counts.add(of_claim(lease.queue, lease.claimable_seconds))
    return lease


def run_job(runtime: Runtime, lease: Lease, stopping: SharedEvent) -> int:
    """Run a job to one of its ends: committed, queued again, given up, or dropped.

    Returns:
        How many jobs it enqueued.

    Raises:
        DeviceBroken: the attempt has ended, and with it what this process can compute.
        SQLAlchemyError: the database is away or refuses, and the job is left to its lease.
    """
    attributes: dict[str, str | int] = {
        "memaudit.job.id": str(lease.job_id),
        "memaudit.job.kind": lease.kind,
        "memaudit.job.queue": lease.queue,
        "memaudit.job.attempt": lease.attempts,
    }
    with span(f"job {lease.kind}", attributes, parent=lease.traceparent, kind=SpanKind.CONSUMER):
        enqueued, measured = _run_job(runtime, lease, stopping)
    record(runtime.sessions, runtime.machine, measured, runtime.counts)
    return enqueued


def _run_job(runtime: Runtime, lease: Lease, stopping: SharedEvent) -> tuple[int, list[MeasuredJob]]:
    """Run a job to its end; how many jobs it enqueued, and what was measured if it succeeded."""
    job_log = log.bind(job=str(lease.job_id), kind=lease.kind, epoch=lease.epoch)
    try:
        # A full disk must not pass for a database that is away: waiting does not help.
        with (
            LeaseKeeper(runtime.sessions, runtime.settings, lease, stopping) as keeper,
            storage_full_named(),
        ):
            with runtime.meter.apart():
                run = handler_of(lease.kind)  # imports it, the first time
            enqueued = run(runtime, lease, keeper)
            measured = runtime.meter.read(lease.kind)
    except LeaseLost:
        job_log.info("job_dropped")
        note(outcome="dropped")
        with runtime.sessions.begin() as session:
            close_cancelled(session, lease)
            if was_given_to_another(session, lease):
                runtime.counts.add(of_lost_lease(lease.kind))
    except Stopping:
        job_log.info("job_released")
        note(outcome="released")
        with runtime.sessions.begin() as session:
            release(session, lease)
        runtime.counts.add(of_retry(lease.kind, WORKER_STOPPED))
    except Exception as error:  # noqa: BLE001 - whatever a model or a driver raises ends the attempt, not the worker
        if not device_is_broken(error) and device_answers():
            end_attempt(runtime, lease, _named(error, lease))
        else:
            job_log.error("device_broken", **_whence(error))
            note(outcome="device_broken")
            crash = JobCrashed(f"The device of the worker broke at a {lease.kind} job.")
            with suppress(SQLAlchemyError):
                end_attempt(runtime, lease, crash)
            raise DeviceBroken from None
    else:
        job_log.info("job_succeeded")
        note(outcome="succeeded")
        return enqueued, measured
    return 0, []


def _named(error: Exception, lease: Lease) -> JobFailed:
    """The expected failure that an error amounts to."""
    if isinstance(error, JobFailed):
        return error
    if database_is_away(error):
        return ServiceUnavailable("The connection to the database was lost.")
    log.error("job_crashed", job=str(lease.job_id), **_whence(error))
    return JobCrashed(f"The worker failed at a {lease.kind} job ({type(error).__name__}).")


def _whence(error: Exception) -> dict[str, str]:
    """Where something broke, but not what the error says: that may quote a text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return {"error": type(error).__name__, "where": f"{frame.filename}:{frame.lineno}"}
