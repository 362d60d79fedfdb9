"""A worker in the test's own process, one job at a time."""

import time
from multiprocessing import get_context

from app.store.jobs.claiming import claim
from workers.running.loop import run_job
from workers.running.runtime import Runtime


def run_next(runtime: Runtime) -> str:
    """Run the job that waits. A claim passes over it for as long as the sweeper of the service holds it."""
    deadline = time.monotonic() + 10
    lease = None
    while lease is None:
        assert time.monotonic() < deadline
        with runtime.sessions.begin() as session:
            lease = claim(session, queue="gpu", worker="test", lease_seconds=60, loaded=[])
    run_job(runtime, lease, get_context("fork").Event())
    return lease.kind
