"""The doorbell, rung after the commit."""

import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError

from app.settings import DOORBELL_TASK, Settings

log = structlog.get_logger()


class Doorbell:
    """Tells workers that there is work. A lost bell is rung again by the sweeper, so no failure matters."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("memaudit", set_as_current=False)
        self._celery.conf.update(settings.celery_options())

    def ring(self, queue: str, times: int = 1) -> None:
        """Ring once per job; blocks for a few seconds at most when the broker is away.

        A bell never grows too old: the worker's clock would say whether it has, and one that is ahead of ours
        would then let none be heard.
        """
        try:
            for _ in range(times):
                self._celery.send_task(
                    DOORBELL_TASK,
                    queue=queue,
                    retry=True,
                    retry_policy={"max_retries": 1, "interval_start": 0},
                )
        except (BrokerError, OSError) as error:
            log.warning("doorbell_not_rung", queue=queue, error=type(error).__name__)

    def close(self) -> None:
        """Drop the connections to the broker."""
        self._celery.close()
