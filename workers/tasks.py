"""The one Celery task: it answers the doorbell and holds no logic."""

from typing import Any

import structlog
from kombu.exceptions import OperationalError as BrokerError

from app.settings import DOORBELL_TASK
from workers.celery_app import celery_app, stopping
from workers.running.runtime import get_runtime

log = structlog.get_logger()

# More bells than this for one audit would only find each other's work done.
MOST_BELLS = 16


@celery_app.task(name=DOORBELL_TASK, bind=True)
def work(task: Any) -> None:
    """Do jobs until none is left, or until the worker is asked to stop."""
    # torch is touched in the child only
    from workers.running.device import DeviceBroken  # noqa: PLC0415
    from workers.running.loop import run_jobs_until_idle  # noqa: PLC0415

    runtime = get_runtime()
    queue = task.request.delivery_info["routing_key"]

    def ring_for_others(times: int) -> None:
        try:
            for _ in range(min(times, MOST_BELLS)):
                work.apply_async(queue=queue, expires=2 * runtime.settings.lease_seconds, retry=False)
        except (BrokerError, OSError) as error:
            # The sweeper rings again.
            log.warning("doorbell_not_rung", queue=queue, error=type(error).__name__)

    try:
        run_jobs_until_idle(runtime, stopping, queue=queue, ring_for_others=ring_for_others)
    except DeviceBroken:
        # The pool starts a fresh process in place of one that ends, and that one takes what is left.
        ring_for_others(1)
        raise SystemExit from None
