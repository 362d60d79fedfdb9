"""Work of an API process that never ends is begun again when it fails, and ends when it is cancelled."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.maintenance.running import keep_up


async def test_work_that_fails_is_begun_again() -> None:
    begun: list[int] = []
    goes_on = asyncio.Event()

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise KeyError("a text")
        goes_on.set()
        await asyncio.Event().wait()

    with capture_logs() as said:
        task = asyncio.create_task(keep_up("rings", work, pause=0))
        await asyncio.wait_for(goes_on.wait(), 5)
    assert begun == [0, 1, 2]
    assert [(each["work"], each["error"]) for each in said] == [("rings", "KeyError")] * 2
    assert "a text" not in str(said)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
