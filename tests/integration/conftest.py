"""The service in this process, on the real servers."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from app.serving.protocol import BoundedProtocol
from app.settings import Settings
from app.store.blobs.objects import objects_at
from app.store.blobs.rows import CHUNK_BYTES
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine, sync_sessions
from tests.artifacts import make_artifact
from tests.bucket_server import Bucket, bucket
from tests.http_api import client_of, make_key, running_app
from workers.running.runtime import Runtime, make_runtime


@pytest.fixture
def settings(database_url: str, broker_url: str) -> Settings:
    return Settings(database_url=database_url, broker_url=broker_url)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running_app(settings) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key that may read and write audits."""
    async with client_of(app, make_key(settings)) as client:
        yield client


@pytest.fixture
async def remote(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client over a socket: events arrive as they are sent."""
    config = uvicorn.Config(app, port=0, http=BoundedProtocol, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=client.headers) as remote:
        yield remote
    server.should_exit = True
    await serving


@pytest.fixture
def database(settings: Settings) -> Iterator[psycopg.Connection]:
    """What the service wrote, read past it."""
    url = settings.require_database_url().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def sessions(settings: Settings) -> Iterator[sessionmaker[Session]]:
    engine = sync_engine(settings.require_database_url())
    yield sync_sessions(engine)
    engine.dispose()


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """What a worker shares, for jobs that a test runs itself (see `tests.own_worker`)."""
    runtime = make_runtime(settings)
    yield runtime
    runtime.sessions.kw["bind"].dispose()


@pytest.fixture
def bucket_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with bucket() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        objects_at.cache_clear()
        yield server
        objects_at.cache_clear()


@pytest.fixture
async def editor(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key that may read and write edits and artifacts."""
    async with client_of(app, make_key(settings, scopes=("edit:read", "edit:write"))) as client:
        yield client


@pytest.fixture
def artifact_directory(tmp_path: Path) -> Path:
    files = tmp_path / "files"
    (files / "sub").mkdir(parents=True)
    (files / "small.txt").write_bytes(b"0123456789")
    (files / "empty").write_bytes(b"")
    (files / "sub" / "large.bin").write_bytes(os.urandom(2 * CHUNK_BYTES + 1000))
    return files


@pytest.fixture
def artifact(settings: Settings, artifact_directory: Path) -> str:
    made = make_artifact(settings.require_database_url(), artifact_directory)
    return format_id(Prefix.ARTIFACT, made.id)
