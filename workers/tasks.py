"""The one Celery task: it answers the doorbell and holds no logic."""

from typing import Any

import structlog
from kombu.exceptions import OperationalError as BrokerError

from app.settings import DOORBELL_TASK, GPU_QUEUE, Queue
from workers.celery_app import celery_app, stopping, worker_class
from workers.running.runtime import get_runtime

log = structlog.get_logger()

# More bells than this for one audit would only find each other's work done.
MOST_BELLS = 16


@celery_app.task(name=DOORBELL_TASK, bind=True)
def answer_doorbell(task: Any) -> None:
    """Run jobs until none is left, or until the worker is asked to stop."""
    # What jobs need is imported in the child only.
    from workers.running.device import DeviceBroken  # noqa: PLC0415
    from workers.running.loop import run_jobs_until_idle  # noqa: PLC0415

    queue = worker_class()
    runtime = get_runtime(queue)

    def ring_for_others(theirs: Queue, times: int) -> None:
        try:
            for _ in range(min(times, MOST_BELLS)):
                task.apply_async(queue=theirs, retry=False)
        except (BrokerError, OSError) as error:
            # The sweeper rings again.
            log.warning("doorbell_not_rung", queue=theirs, error=type(error).__name__)

    try:
        run_jobs_until_idle(runtime, stopping, queue=queue, ring_for_others=ring_for_others)
    except DeviceBroken:
        # The pool starts a fresh process in place of one that ends, and that one takes what is left.
        ring_for_others(GPU_QUEUE, 1)
        raise SystemExit from None
