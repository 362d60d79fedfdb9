"""Engines for the two kinds of process: async sessions in the API, sync sessions in workers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from app.store import tables  # noqa: F401 - a flush orders rows by foreign keys, so it needs every table

# No parameter values in SQLAlchemy's messages: they may be submitted texts.
_ENGINE_OPTIONS = {"pool_pre_ping": True, "hide_parameters": True}
CONNECT_ARGS: Final[dict[str, Any]] = {"connect_timeout": 5, "application_name": "memaudit"}
# No transaction waits for anything but the database: one that idles belongs to a worker that stopped.
_IDLE_OPTION = "-c idle_in_transaction_session_timeout=10min"


def sqlalchemy_url(url: str) -> str:
    """A Postgres URL with the driver named: psycopg 3."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in {"postgres", "postgresql"} else url


def driver_url(url: str) -> str:
    """A Postgres URL as the driver itself takes it."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def async_engine(url: str, *, pool_size: int) -> AsyncEngine:
    """The API's engine."""
    return create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args=CONNECT_ARGS,
        **_ENGINE_OPTIONS,
    )


def async_sessions(
    engine: AsyncEngine, info: Mapping[str, Any] = MappingProxyType({})
) -> async_sessionmaker[AsyncSession]:
    """The API's sessions. Objects stay readable after the commit, so that a response can be built of them.

    Each carries `info`.
    """
    return async_sessionmaker(engine, expire_on_commit=False, info=dict(info))


def sync_engine(url: str, *, pool_size: int = 2) -> Engine:
    """A worker's engine: one connection for the job, one for its heartbeat.

    A worker that stops in the middle of a transaction must not keep its locks for ever.
    """
    return create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=2,
        connect_args=CONNECT_ARGS | {"options": _IDLE_OPTION},
        **_ENGINE_OPTIONS,
    )


def sync_sessions(engine: Engine, info: Mapping[str, Any] = MappingProxyType({})) -> sessionmaker[Session]:
    """A worker's sessions. Each carries `info`."""
    return sessionmaker(engine, expire_on_commit=False, info=dict(info))
