"""Telling that a worker of this class is there, so that it is known what can be run."""

import time
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.store.throughput import announce
from workers.running.runtime import Runtime

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 60.0


def announce_forever(runtime: Runtime) -> None:
    """Say at once, and then each minute, that this process is there. It never returns."""
    while True:
        try:
            with runtime.sessions.begin() as session:
                announce(session, runtime.machine, runtime.queue)
        except SQLAlchemyError as error:
            log.warning("worker_not_announced", error=type(error).__name__)
        time.sleep(_PAUSE_SECONDS)
