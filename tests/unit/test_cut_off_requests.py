"""What a server that ends cuts off is told so, in a problem document, and never that there was a defect."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from fastapi.responses import StreamingResponse

from app.main import create_app
from app.serving.protocol import BoundedProtocol
from app.settings import Settings


async def test_who_is_cut_off_is_told_to_come_again(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings())
    began = asyncio.Semaphore(0)

    @app.get("/slow")
    async def slow() -> None:
        began.release()
        await asyncio.Event().wait()

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half of it"
            began.release()
            await asyncio.Event().wait()

        return StreamingResponse(parts())

    config = uvicorn.Config(
        app, port=0, http=BoundedProtocol, lifespan="off", log_config=None, timeout_graceful_shutdown=0
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        asked = [asyncio.create_task(client.get(path)) for path in ("/slow", "/half")]
        for _ in asked:
            await asyncio.wait_for(began.acquire(), 10)
        with caplog.at_level(logging.ERROR, "uvicorn.error"):
            await server.shutdown()
            refused, broken = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(refused, httpx.Response)
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert refused.json()["type"].endswith("/service-unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    # None takes for whole what has no end.
    assert isinstance(broken, httpx.RemoteProtocolError)
    assert not [each for each in caplog.records if each.exc_info]  # a traceback could quote a text
