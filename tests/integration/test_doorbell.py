"""The doorbell: one bell a job, and none where as many are waiting already."""

import asyncio

from structlog.testing import capture_logs

from app.embedded.redis_server import RedisServer
from app.maintenance.doorbell import Doorbell
from app.settings import Settings
from tests.servers import temporary_layout


async def test_bells_of_a_burst_are_rung_together_and_not_beside_those_that_nobody_hears(
    settings: Settings, redis_server: RedisServer
) -> None:
    number = int(settings.require_broker_url().rpartition("=")[2].rpartition("/")[2])
    doorbell = Doorbell(settings)
    with redis_server.client(number) as redis:
        assert redis.dbsize() == 0

        async def ring(times: int) -> int:
            for _ in range(times):
                doorbell.ring("gpu")
            await doorbell.ring_wanted()
            return int(redis.llen("gpu"))

        assert await ring(3) == 3
        assert await ring(2) == 3  # whoever hears the three works until nothing is left
        assert await ring(5) == 5
        redis.delete("gpu")  # they were heard
        assert await ring(2) == 2
        doorbell.ring("cpu")
        await doorbell.close()  # what is left is rung
        assert (redis.llen("gpu"), redis.llen("cpu")) == (2, 1)


async def test_whoever_rings_does_not_wait_for_a_broker_that_is_away() -> None:
    doorbell = Doorbell(Settings(broker_url="redis://127.0.0.1:1/0"))
    with capture_logs() as said:
        ringing = asyncio.create_task(doorbell.ring_forever())
        doorbell.ring("gpu")
        async with asyncio.timeout(30):
            while [each["event"] for each in said] != ["doorbell_not_rung"]:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
        assert not ringing.done()  # a failure ends nothing
        ringing.cancel()
    await doorbell.close()


async def test_a_broker_that_goes_away_and_comes_back_is_rung_at_again() -> None:
    with temporary_layout() as layout, RedisServer(layout) as server:
        doorbell = Doorbell(Settings(broker_url=server.url_of(0)))

        async def ring() -> None:
            doorbell.ring("gpu")
            await doorbell.ring_wanted()

        await ring()
        server.stop()
        await ring()  # lost, and no failure
        server.start()
        await ring()
        with server.client() as redis:
            assert redis.llen("gpu") == 1
        await doorbell.close()
