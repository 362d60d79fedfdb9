"""One transaction a request: the API's async side runs the store's synchronous operations."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from app.store.core.sessions import async_sessions

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
        info: what each session carries.
    """

    def __init__(self, engine: AsyncEngine, info: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.engine = engine
        self._sessions = async_sessions(engine, info)

    def session(self) -> AsyncSession:
        """A session whose transaction the caller owns, for streams."""
        return self._sessions()

    async def run(
        self,
        operation: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation in a transaction of its own and commit it; on any error nothing is changed."""
        async with self._sessions.begin() as session:
            return await session.run_sync(operation, *args, **kwargs)

    async def read(
        self,
        operation: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run an operation that only reads, of which all statements see the same snapshot."""
        async with self._sessions.begin() as session:
            await session.execute(_SNAPSHOT)
            return await session.run_sync(operation, *args, **kwargs)
