"""The Celery application: it carries the doorbell, and nothing else."""

import multiprocessing
import threading
from typing import Any

from billiard import current_process
from celery import Celery
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from app.logs import configure_logging
from app.settings import CPU_QUEUE, GPU_QUEUE, Queue, get_settings
from app.tracing import start_tracing
from workers.running.device import take_devices

celery_app = Celery("memaudit", include=["workers.tasks"])
celery_app.conf.update(get_settings().celery_options())

# Shared with the forked children: set when the worker has been asked to stop.
stopping = multiprocessing.get_context("fork").Event()


def worker_class() -> Queue:
    """The class of this worker, told from the queues that it was started with."""
    return GPU_QUEUE if GPU_QUEUE in celery_app.amqp.queues.consume_from else CPU_QUEUE


@setup_logging.connect
def _keep_our_logs(**_: Any) -> None:
    """Log as the service does; Celery's own logging would print task arguments and tracebacks."""
    configure_logging(get_settings())


@worker_shutting_down.connect
def _let_jobs_go(**_: Any) -> None:
    """Tell the children to hand their jobs back instead of finishing them."""
    stopping.set()


@celeryd_after_setup.connect
def _start_server(**_: Any) -> None:
    """Before the first fork, so that all children ask one server, also those that take another's place."""
    if worker_class() == GPU_QUEUE:
        from workers.confined.process import start_server  # noqa: PLC0415 - a worker for `cpu` needs none

        start_server()


@worker_process_init.connect
def _trace(**_: Any) -> None:
    """In a fresh child, which has its own threads: send traces until it ends."""
    stop_tracing = start_tracing("memaudit-worker")
    # A weak reference would be gone at once.
    worker_process_shutdown.connect(lambda **_: stop_tracing(), weak=False)


@worker_process_init.connect
def _begin(**_: Any) -> None:
    """In a fresh child: take its devices; beside its first job get ready, and say that it is there."""
    take_devices(get_settings().devices, getattr(current_process(), "index", 0))
    threading.Thread(target=_warm_up_and_announce, args=(worker_class(),), daemon=True).start()


def _warm_up_and_announce(queue: Queue) -> None:
    """Load torch while nothing waits for it yet. It must not be loaded before the fork.

    A worker for `cpu` may have none.
    """
    if queue == GPU_QUEUE:
        import workers.science.scoring.scorer  # noqa: F401, PLC0415 - torch is touched in the child only
    from workers.running.presence import announce_forever  # noqa: PLC0415 - what jobs need, as above
    from workers.running.runtime import get_runtime  # noqa: PLC0415 - as above

    announce_forever(get_runtime(queue))
