"""The HTTP service for tests: in this process, with keys and clients."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path

import httpx
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.main import create_app
from app.settings import Settings
from app.store.api_keys import create_key
from app.store.core.identifiers import new_id
from app.store.core.sessions import sync_engine
from app.store.tenants import ensure_tenant

WRITER_SCOPES = ("audit:read", "audit:write")


def settings_with_models(database_url: str, broker_url: str, directory: Path, **more: int | bool) -> Settings:
    """Settings of a service that may read language models from a directory, and has its home in it."""
    return Settings.model_validate(
        {
            "database_url": database_url,
            "broker_url": broker_url,
            "home": directory / "home",
            "model_roots": [directory],
            "lease_seconds": 60,
            **more,
        }
    )


def make_key(settings: Settings, *, tenant: str = "acme", scopes: tuple[str, ...] = WRITER_SCOPES) -> str:
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        _, key = create_key(
            session, ensure_tenant(session, tenant), name=f"test {new_id()}", scopes=list(scopes)
        )
    engine.dispose()
    return key


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, key: str | None = None) -> httpx.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://memaudit", headers=headers, timeout=60
    )


_counting: ContextVar[list[str] | None] = ContextVar("counting", default=None)


@contextmanager
def statements_of(app: FastAPI) -> Iterator[list[str]]:
    """What requests that are sent meanwhile say to the database, in order; the ends of transactions too.

    What the application does beside them is left out.
    """
    engine = app.state.store.engine.sync_engine
    said: list[str] = []

    def say(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if _counting.get() is said:
            said.append(" ".join(statement.split()))

    def commit(_connection: object) -> None:
        if _counting.get() is said:
            said.append("COMMIT")

    event.listen(engine, "before_cursor_execute", say)
    event.listen(engine, "commit", commit)
    token = _counting.set(said)
    try:
        yield said
    finally:
        _counting.reset(token)
        event.remove(engine, "before_cursor_execute", say)
        event.remove(engine, "commit", commit)
