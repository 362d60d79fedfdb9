"""The doorbell, rung after the commit."""

import asyncio
from collections import Counter
from typing import Any, Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError

from app.settings import DOORBELL_TASK, Settings

log = structlog.get_logger()

# What is to be rung meanwhile is rung together.
_PAUSE_SECONDS: Final = 0.1
_LAST_BELLS_SECONDS: Final = 2.0


class Doorbell:
    """Tells workers that there is work. A lost bell is rung again by the sweeper, so no failure matters."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("memaudit", set_as_current=False)
        self._celery.conf.update(settings.celery_options())
        self._wanted: Counter[str] = Counter()
        self._any_wanted = asyncio.Event()

    def ring(self, queue: str, times: int = 1) -> None:
        """Ring once per job, soon. Whoever asks for it does not wait.

        A bell never grows too old: the worker's clock would say whether it has, and one that is ahead of ours
        would then let none be heard.
        """
        self._wanted[queue] += times
        self._any_wanted.set()

    async def ring_forever(self) -> None:
        """Until cancelled: ring at once when it is asked for, and together what is asked for in a burst."""
        while True:
            await self._any_wanted.wait()
            await self.ring_wanted()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def ring_wanted(self) -> None:
        """Ring what was asked for; takes a few seconds at most when the broker is away."""
        self._any_wanted.clear()
        wanted, self._wanted = self._wanted, Counter()
        if wanted:
            await asyncio.to_thread(self._ring, wanted)

    async def close(self) -> None:
        """Ring what is left, and drop the connections to the broker."""
        try:
            async with asyncio.timeout(_LAST_BELLS_SECONDS):
                await self.ring_wanted()
        except TimeoutError:
            log.warning("doorbell_not_rung", error="TimeoutError")
        self._celery.close()

    def _ring(self, wanted: Counter[str]) -> None:
        try:
            with self._celery.producer_pool.acquire(block=True) as producer:
                for queue, times in wanted.items():
                    # A worker that is free hears a bell at once, and one that hears it works until nothing is
                    # left: where bells are waiting everybody is busy, and as many more are not needed.
                    for _ in range(times - _waiting(producer, queue)):
                        self._celery.send_task(
                            DOORBELL_TASK,
                            producer=producer,
                            queue=queue,
                            retry=True,
                            retry_policy={"max_retries": 1, "interval_start": 0},
                        )
        except (BrokerError, OSError) as error:
            log.warning("doorbell_not_rung", queues=sorted(wanted), error=type(error).__name__)


def _waiting(producer: Any, queue: str) -> int:
    """How many bells of a queue nobody has heard yet."""
    try:
        return int(producer.channel.queue_declare(queue, passive=True).message_count)
    except producer.connection.channel_errors:
        return 0  # a queue without messages does not exist
    except producer.connection.connection_errors:
        return 0  # ringing connects again, or fails in a way that is expected
