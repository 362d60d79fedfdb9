"""What draws is apart from what answers: a few children, for a limited time, none that outlives us."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import httpx
import orjson
import psutil
import pytest
import typst
import vl_convert
from fastapi import FastAPI

from app.errors import RenderingTimedOut, ServiceUnavailable
from app.rendering import pool
from app.rendering.pool import Renderings
from app.settings import Settings
from tests.drawing_child import environment, fail, hang, times
from tests.http_api import client_of, make_key, running_app
from tests.integration.evidence import scored_audit, toy
from tests.live_service import LiveService

WAITING = 16  # behind one that is drawn
SECRET = "Sesame opens the cave of the forty."


@pytest.fixture
async def one() -> AsyncIterator[Renderings]:
    renderings = Renderings(1, 60.0)
    yield renderings
    await renderings.close()


async def run(renderings: Renderings, function: Callable[..., bytes], *arguments: object) -> bytes:
    async with renderings.turn() as run_apart:
        return await run_apart(function, *arguments)


async def longest_gap(of: Awaitable[object]) -> float:
    """For how long at most the event loop did nothing else while it waited."""
    waited = asyncio.ensure_future(of)
    ticks = [time.monotonic()]
    while not waited.done():
        await asyncio.sleep(0.005)
        ticks.append(time.monotonic())
    await waited
    return max(after - before for before, after in pairwise(ticks)) - 0.005


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - processes have no event for it
            await asyncio.sleep(0.02)


async def test_the_loop_is_free_while_reports_are_drawn(
    client: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away for a quarter of a second for each plot, and for more at the first one."""
    audit = await scored_audit(client, settings)
    paths = [f"/v1/audits/{audit}/evidence/{name}" for name in ("html", "pdf")]
    # Both children are there; to start one on a busy machine takes a moment too.
    await asyncio.gather(*map(client.get, paths))
    assert await longest_gap(asyncio.gather(*map(client.get, 3 * paths))) < 0.3
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", fail)
    monkeypatch.setattr(typst, "compile", fail)
    for path in paths:
        assert (await client.get(path)).status_code == 200


async def test_pages_draw_apart(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await scored_audit(client, settings)
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", fail)
    async with client_of(app) as browser:
        key = client.headers["Authorization"].removeprefix("Bearer ")
        headers = {"Origin": "http://memaudit"}
        await browser.post("/sign-in", data={"key": key}, headers=headers)
        plot = await browser.get(f"/audits/{audit}/plots/distribution.svg", params={"ink": "light"})
        assert (plot.status_code, plot.headers["content-type"]) == (200, "image/svg+xml")
        assert plot.content.startswith(b'<svg color="#e6ebf0" ')


async def test_no_more_are_drawn_at_once_than_may_be() -> None:
    two = Renderings(2, 60.0)
    found = [orjson.loads(each) for each in await asyncio.gather(*(run(two, times, 0.2) for _ in range(6)))]
    assert len({pid for _, _, pid in found}) == 2
    for began, _, _ in found:
        assert sum(start <= began < end for start, end, _ in found) <= 2
    await two.close()
    assert all(gone(pid) for _, _, pid in found)


async def test_who_comes_when_too_many_wait_is_sent_away(
    database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(database_url=database_url, broker_url=broker_url, renderings=1)
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        audit = await scored_audit(client, settings)
        toy(monkeypatch, render=lambda _record: 0.3, finish=times)
        path = f"/v1/audits/{audit}/evidence/toy"
        answers = await asyncio.gather(*(client.get(path) for _ in range(1 + WAITING + 3)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) == 3
        for answer in refused:
            assert answer.status_code == 503
            assert answer.json()["type"].endswith("/service-unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert (await client.get(path)).status_code == 200


async def test_a_document_that_was_begun_is_not_broken_off_by_others(one: Renderings) -> None:
    held = [asyncio.create_task(run(one, times, 0.05)) for _ in range(1 + WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ServiceUnavailable):
        await run(one, times, 0)
    async with one.turn(begun=True) as run_apart:
        assert all(task.done() for task in held)
        await run_apart(times, 0)


async def test_what_takes_too_long_is_ended(
    database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(database_url=database_url, broker_url=broker_url, renderings=1, rendering_seconds=3)
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        audit = await scored_audit(client, settings)
        toy(monkeypatch, render=lambda _record: None, finish=hang)
        before = set(psutil.Process().children())
        answer = asyncio.create_task(client.get(f"/v1/audits/{audit}/evidence/toy"))
        await until(lambda: bool(set(psutil.Process().children()) - before))
        (child,) = set(psutil.Process().children()) - before
        problem = (await answer).json()
        assert (problem["status"], problem["type"].rpartition("/")[2]) == (503, "rendering-timed-out")
        assert "MEMAUDIT_RENDERING_SECONDS" in problem["detail"]
        await until(lambda: gone(child.pid))
        toy(monkeypatch, render=lambda _record: 0.0, finish=times)
        assert (await client.get(f"/v1/audits/{audit}/evidence/toy")).status_code == 200


async def test_one_that_is_ended_leaves_the_others() -> None:
    two = Renderings(2, 2.0)
    await asyncio.gather(run(two, times, 0.1), run(two, times, 0.1))
    ended, other = await asyncio.gather(run(two, hang), run(two, times, 1.0), return_exceptions=True)
    assert isinstance(ended, RenderingTimedOut)
    assert isinstance(other, bytes)
    await two.close()


async def test_a_child_that_somebody_kills_is_replaced(one: Renderings) -> None:
    _, _, pid = orjson.loads(await run(one, times, 0))
    task = asyncio.create_task(run(one, times, 30))
    await asyncio.sleep(0.1)
    psutil.Process(pid).kill()
    with pytest.raises(ServiceUnavailable):
        await task
    assert orjson.loads(await run(one, times, 0))[2] != pid


async def test_a_failure_does_not_tell_what_was_drawn(one: Renderings) -> None:
    with pytest.raises(RuntimeError) as raised:
        await run(one, fail, SECRET)
    assert str(raised.value) == "A rendering failed: ValueError"
    assert await run(one, times, 0)


async def test_children_know_no_settings(one: Renderings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", SECRET)
    assert "MEMAUDIT_DATABASE_URL" not in orjson.loads(await run(one, environment))


async def test_a_child_that_nobody_needs_is_ended(one: Renderings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.3)
    _, _, pid = orjson.loads(await run(one, times, 0))
    assert orjson.loads(await run(one, times, 0))[2] == pid
    await until(lambda: gone(pid))
    assert await run(one, times, 0)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
async def test_children_end_with_the_api(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path, sent: signal.Signals
) -> None:
    audit = await scored_audit(client, settings)
    service = LiveService(
        tmp_path,
        database_url=settings.require_database_url(),
        broker_url=settings.require_broker_url(),
        model_roots=[],
    )
    with service:
        assert service.client.get(f"/v1/audits/{audit}/evidence/html").status_code == 200
        api = psutil.Process(service.api.pid)
        (child,) = api.children()
        api.send_signal(sent)
        await until(lambda: gone(child.pid))


async def test_a_busy_child_ends_with_the_api() -> None:
    """At once, although it reads nothing that would tell it."""
    program = (
        "import asyncio\n"
        "from app.rendering.pool import Renderings\n"
        "from tests.drawing_child import hang, times\n"
        "async def main():\n"
        "    async with Renderings(1, 60).turn() as run_apart:\n"
        "        print((await run_apart(times, 0)).decode(), flush=True)\n"
        "        await run_apart(hang)\n"
        "asyncio.run(main())\n"
    )
    # Of the paths that its own child is given, the one where it stands itself is left out.
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=subprocess.PIPE, env=os.environ | paths
    )
    assert parent.stdout is not None
    _, _, pid = orjson.loads(await parent.stdout.readline())
    await until(lambda: psutil.Process(pid).cpu_times().user > 0.5)
    parent.kill()
    await parent.wait()
    await until(lambda: gone(pid))
