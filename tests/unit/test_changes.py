"""Watches by themselves: whose readings are shared, what a failure is to those who wait, how they end."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.http.changes import Changes, Resource


class Source:
    """Something that is read: a number that the test sets, a failure, or a reading that takes a while."""

    def __init__(self) -> None:
        self.value = 0
        self.begun = 0
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> int:
        self.begun += 1
        value, failure = self.value, self.failure
        await self.open.wait()
        if failure is not None:
            raise failure
        return value


async def wait(waits: Changes, resource: Resource, source: Source) -> int:
    with waits.watch(resource, source.read) as watch:
        return (await watch.fresh()).value


@pytest.fixture
async def waits() -> AsyncIterator[Changes]:
    changes = Changes("postgresql://nowhere")
    yield changes
    await changes.close()


@pytest.fixture
def resource() -> Resource:
    return Resource(uuid4(), uuid4())


async def test_a_reading_under_way_is_not_fresh(waits: Changes, resource: Resource) -> None:
    """It may have looked before what the caller has just done."""
    source = Source()
    source.open.clear()
    first = asyncio.create_task(wait(waits, resource, source))
    await asyncio.sleep(0.01)
    source.value = 1
    second = asyncio.create_task(wait(waits, resource, source))
    await asyncio.sleep(0.01)
    source.open.set()
    async with asyncio.timeout(2):
        assert (await first, await second) == (0, 1)
    assert source.begun == 2


async def test_those_who_come_at_once_share_a_reading(waits: Changes, resource: Resource) -> None:
    source = Source()
    async with asyncio.timeout(2):
        assert await asyncio.gather(*(wait(waits, resource, source) for _ in range(50))) == [0] * 50
    assert source.begun == 1


async def test_tenants_share_nothing(waits: Changes, resource: Resource) -> None:
    mine, theirs = Source(), Source()
    theirs.value = 1
    other = Resource(uuid4(), resource.id)
    async with asyncio.timeout(2):
        with waits.watch(resource, mine.read) as watch, waits.watch(other, theirs.read) as watch_of_theirs:
            assert ((await watch.fresh()).value, (await watch_of_theirs.fresh()).value) == (0, 1)


async def test_a_failure_reaches_all_and_the_next_reading_is_tried(
    waits: Changes, resource: Resource
) -> None:
    source = Source()
    source.failure = ConnectionError("away")
    with waits.watch(resource, source.read) as watch:
        async with asyncio.timeout(2):
            failures = await asyncio.gather(*(watch.fresh() for _ in range(3)), return_exceptions=True)
            assert failures == [source.failure] * 3
            source.failure = None
            assert (await watch.fresh()).value == 0


async def test_nothing_is_read_for_nobody(waits: Changes, resource: Resource) -> None:
    source = Source()
    others = asyncio.all_tasks()
    with waits.watch(resource, source.read) as watch, waits.watch(resource, source.read) as same:
        assert same is watch
        await watch.fresh()
    await asyncio.sleep(0.2)
    assert source.begun == 1
    assert asyncio.all_tasks() == others
