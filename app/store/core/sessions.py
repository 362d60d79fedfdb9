"""Engines for the two kinds of process: async sessions in the API, sync sessions in workers."""

import os
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from app.store import tables  # noqa: F401 - a flush orders rows by foreign keys, so it needs every table

# No parameter values in SQLAlchemy's messages: they may be submitted texts.
_ENGINE_OPTIONS = {"hide_parameters": True}
CONNECT_ARGS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "application_name": "memaudit",
    # The operating system finds out that the other end is gone, whether or not one waits for it.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# No transaction waits for anything but the database: one that idles belongs to a process that stopped.
_WORKER_OPTIONS = "-c idle_in_transaction_session_timeout=10min"


@dataclass(frozen=True)
class TimeLimits:
    """How long the API waits for the database, in seconds.

    Attributes:
        connection_seconds: for a free connection.
        statement_seconds: for the end of a statement, on the database's own clock.
        lock_seconds: for a lock that another transaction holds.
        grace_seconds: beyond these limits, for a database that does not even say that they are over.
        long_seconds: for the end of a statement that writes or reads all of something large.
    """

    connection_seconds: float = 10.0
    statement_seconds: float = 10.0
    lock_seconds: float = 5.0
    grace_seconds: float = 2.0
    long_seconds: float = 3600.0

    def session_options(self) -> str:
        """The limits of a session, as the server takes them when one connects."""
        options = {
            "statement_timeout": self.statement_seconds,
            "lock_timeout": self.lock_seconds,
            "idle_in_transaction_session_timeout": 60.0,
        }
        return " ".join(f"-c {name}={int(1000 * seconds)}ms" for name, seconds in options.items())


def sqlalchemy_url(url: str) -> str:
    """A Postgres URL with the driver named: psycopg 3."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in {"postgres", "postgresql"} else url


def driver_url(url: str) -> str:
    """A Postgres URL as the driver itself takes it."""
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def async_engine(url: str, *, pool_size: int, limits: TimeLimits | None = None) -> AsyncEngine:
    """The API's engine. A request waits neither for a connection nor for an answer beyond the limits."""
    limits = limits or TimeLimits()
    engine = create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=limits.connection_seconds,
        connect_args=CONNECT_ARGS | {"options": limits.session_options()},
        **_ENGINE_OPTIONS,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


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
    engine = create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=2,
        connect_args=CONNECT_ARGS | {"options": _WORKER_OPTIONS},
        **_ENGINE_OPTIONS,
    )
    event.listen(engine, "checkout", _refuse_closed)
    return engine


class Held:
    """The connections that somebody holds, which they will not hold for ever.

    A database that is stopped, or whose machine is gone, keeps no time: neither it nor the driver, which
    waits for it, would end a statement. Once its connection is cut off here the driver fails at once.
    """

    def __init__(self) -> None:
        self._drivers: list[Any] = []

    def add(self, driver: Any) -> None:
        """A connection was taken from the pool."""
        self._drivers.append(driver)

    def cut(self) -> None:
        """Cut the connections off. What was sent may or may not have been done."""
        for driver in self._drivers:
            if not driver.closed:
                with socket.socket(fileno=os.dup(driver.fileno())) as connection, suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


# Who takes a connection from the pool of the API.
held: Final[ContextVar[Held | None]] = ContextVar("held", default=None)


def _refuse_closed(_connection: object, record: Any, _proxy: object) -> None:
    """Let the pool connect anew if the server has closed a connection that it kept.

    Nothing is sent to an idle connection but the news that it ends, so one that can be read is of no use.
    The operating system is asked that: a question to the server would double the cost of a short request.

    Raises:
        InvalidatePoolError: it has; then those beside it are suspected too.
    """
    driver = record.driver_connection
    poll = select.poll()
    if not driver.closed:
        poll.register(driver.fileno(), select.POLLIN)
    if driver.closed or poll.poll(0):
        raise InvalidatePoolError
    if (mine := held.get()) is not None:
        mine.add(driver)


def sync_sessions(engine: Engine, info: Mapping[str, Any] = MappingProxyType({})) -> sessionmaker[Session]:
    """A worker's sessions. Each carries `info`."""
    return sessionmaker(engine, expire_on_commit=False, info=dict(info))
