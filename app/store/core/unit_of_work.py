"""One transaction a request: the API's async side runs the store's synchronous operations."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from app.store.core.sessions import Held, TimeLimits, async_sessions, held

P = ParamSpec("P")
T = TypeVar("T")
_SNAPSHOT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def undone(session: Session, look: Callable[[], T]) -> T:
    """What is found in a transaction of which nothing stays, whatever was written in it."""
    savepoint = session.begin_nested()
    try:
        return look()
    finally:
        savepoint.rollback()


class Store:
    """Runs store operations, each in a transaction that commits before the caller goes on.

    Args:
        engine: of the database.
        limits: how long what is asked of it may take.
        info: what each session carries.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        limits: TimeLimits | None = None,
        info: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.engine = engine
        self._limits = limits or TimeLimits()
        self._sessions = async_sessions(engine, info)
        self._looks = async_sessions(engine.execution_options(isolation_level="AUTOCOMMIT"), info)

    @asynccontextmanager
    async def transaction(self, first: TextClause | None = None) -> AsyncIterator[AsyncSession]:
        """A transaction that may take as long as something large asks for; committed unless the block fails.

        For a lock it waits no longer than any other: whoever holds one for long may do so for an hour.

        `first` is a statement that must come before all others.
        """
        async with self._sessions.begin() as session:
            if first is not None:
                await session.execute(first)
            milliseconds = str(int(1000 * self._limits.long_seconds))
            await session.execute(select(func.set_config("statement_timeout", milliseconds, True)))  # noqa: FBT003
            yield session

    async def run(
        self,
        operation: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation in a transaction of its own and commit it; on any error nothing is changed.

        Raises:
            sqlalchemy.exc.OperationalError: the database is away, or did not answer in time.
        """
        with self._in_time():
            async with self._sessions.begin() as session:
                return await session.run_sync(operation, *args, **kwargs)

    async def run_long(
        self,
        operation: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `run`, of an operation that may take as long as something large asks for."""
        async with self.transaction() as session:
            return await session.run_sync(operation, *args, **kwargs)

    async def look(
        self,
        operation: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation that only reads, mostly with one statement; a transaction would cost two more.

        Raises:
            sqlalchemy.exc.OperationalError: the database is away, or did not answer in time.
        """
        with self._in_time():
            async with self._looks() as session:
                return await session.run_sync(operation, *args, **kwargs)

    async def read(
        self,
        operation: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a long operation that only reads, of which all statements see the same snapshot."""
        async with self.transaction(_SNAPSHOT) as session:
            return await session.run_sync(operation, *args, **kwargs)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Cut off a database that does not answer within what its own limits allow."""
        limits, mine = self._limits, Held()
        limit = limits.connection_seconds + limits.statement_seconds + limits.grace_seconds
        timer = asyncio.get_running_loop().call_later(limit, mine.cut)
        token = held.set(mine)
        try:
            yield
        finally:
            held.reset(token)
            timer.cancel()
