"""Delivers, beside the requests of an API process. All such processes share one outbox.

Events become deliveries, those that are due are claimed, and each is tried by a task of its own. What is sent
and not written down, because a process died in between, is sent again with the same id.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.errors import MemauditError
from app.sealing.keyring import open_secret
from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id
from app.store.core.unit_of_work import Store
from app.store.webhook_attempts import (
    Claim,
    claim_deliveries,
    record_delivered,
    record_failed,
    record_gone,
    release,
)
from app.store.webhook_deliveries import DeliveryState
from app.webhooks.destinations import Destinations
from app.webhooks.outbox import EVENTS_AT_ONCE, fan_out, pause_of_delivery, pause_of_webhook
from app.webhooks.posting import Answer, Poster, trusted
from app.webhooks.signing import signature_headers

log = structlog.get_logger()

# Tries under way in one process, and of them for one tenant.
AT_ONCE: Final = 64
_OF_A_TENANT: Final = 16
# Between two looks at the outbox, unless a try has ended and made room.
_POLL_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.02
# A lease is longer than a try and the transactions around it by far.
_LEASE_TIMEOUTS: Final = 4
# What tries that are under way are given when the process ends.
_DRAIN_SECONDS: Final = 3.0
_GONE: Final = 410


class Deliverer:
    """The deliveries of one process.

    Args:
        store: where the outbox is.
        settings: how long to try, how often, and where to.
        count: told what became of each try: `delivered`, `failed` or `dead`.
    """

    def __init__(self, store: Store, settings: Settings, count: Callable[[str], object]) -> None:
        self._store = store
        self._count = count
        self._first_pause = settings.webhook_retry_seconds
        self._give_up_after = timedelta(days=settings.webhook_retry_days)
        self._lease_seconds = _LEASE_TIMEOUTS * settings.webhook_timeout_seconds
        self._poster = Poster(
            Destinations(settings.webhook_networks),
            trusted(settings.webhook_ca_file),
            settings.webhook_timeout_seconds,
        )
        self._tries: dict[asyncio.Task[None], Claim] = {}
        self._ended = asyncio.Event()

    async def deliver_forever(self) -> None:
        """Until cancelled; then tries under way are given a moment, and the others back."""
        try:
            while True:
                pause = _POLL_SECONDS * random.uniform(0.75, 1)  # noqa: S311 - not a secret
                try:
                    if await self._look():
                        pause = _SHORTEST_SECONDS
                except (SQLAlchemyError, MemauditError) as error:
                    log.warning("webhooks_failed", error=type(error).__name__)
                await self._sleep(pause)
        finally:
            await self._drain()

    async def _look(self) -> bool:
        """Take what is there to do; whether there may be more."""
        self._ended.clear()
        events = await self._store.run(fan_out, give_up_after=self._give_up_after)
        room = AT_ONCE - len(self._tries)
        claims: list[Claim] = []
        if room:
            claims = await self._store.run(
                claim_deliveries,
                limit=room,
                under_way=Counter(claim.tenant_id for claim in self._tries.values()),
                of_a_tenant=_OF_A_TENANT,
                lease_seconds=self._lease_seconds,
            )
        for claim in claims:
            task = asyncio.create_task(self._try(claim))
            self._tries[task] = claim
            task.add_done_callback(self._forget)
        return events == EVENTS_AT_ONCE

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._tries[task]
        self._ended.set()

    async def _sleep(self, seconds: float) -> None:
        """For so long, or until a try has ended; never shorter than what the database can bear."""
        await asyncio.sleep(_SHORTEST_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return

    async def _try(self, claim: Claim) -> None:
        try:
            answer = await self._send(claim)
            outcome = await self._record(claim, answer)
        except Exception as error:  # noqa: BLE001 - it is due again when its lease is over
            log.warning("webhook_not_recorded", delivery=_name(claim), error=type(error).__name__)
            return
        if outcome is None:
            return
        self._count(outcome)
        if answer.error is not None:
            log.info(
                "webhook_not_delivered",
                delivery=_name(claim),
                webhook=format_id(Prefix.WEBHOOK, claim.webhook_id),
                attempt=claim.attempt,
                error=answer.error,
                status=answer.status,
                outcome=outcome,
            )

    async def _send(self, claim: Claim) -> Answer:
        # In a thread: a key may be at a service that is asked for it.
        secrets = await asyncio.to_thread(lambda: [open_secret(sealed) for sealed in claim.sealed_secrets])
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"memaudit/{__version__}",
            **signature_headers(_name(claim), claim.body, secrets, datetime.now(UTC)),
        }
        return await self._poster.post(claim.url, headers, claim.body)

    async def _record(self, claim: Claim, answer: Answer) -> str | None:
        """Write down what became of a try; what to count it as, None if another has overtaken it."""
        if answer.error is None:
            assert answer.status is not None
            delivered = await self._store.run(record_delivered, claim, answer.status)
            return "delivered" if delivered else None
        if answer.status == _GONE:
            gone = await self._store.run(record_gone, claim, _GONE, answer.error)
            return "dead" if gone else None
        state = await self._store.run(
            record_failed,
            claim,
            http_status=answer.status,
            error=answer.error,
            pause=pause_of_delivery(claim, answer, self._first_pause),
            webhook_pause=pause_of_webhook(claim, answer, self._first_pause),
        )
        if state is None:
            return None
        return "dead" if state == DeliveryState.DEAD else "failed"

    async def _drain(self) -> None:
        """Let tries end that are about to; give back what others under way had claimed."""
        if not self._tries:
            return
        _, left = await asyncio.wait(self._tries, timeout=_DRAIN_SECONDS)
        claims = [self._tries[task] for task in left]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if claims:
            try:
                await self._store.run(release, claims)
            except (SQLAlchemyError, MemauditError) as error:
                log.warning("webhooks_not_released", error=type(error).__name__)


def _name(claim: Claim) -> str:
    return format_id(Prefix.DELIVERY, claim.id)
