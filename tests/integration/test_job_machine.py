"""Leases in any order of statements, by several workers, on a real Postgres."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.store.core.sessions import sync_engine, sync_sessions
from tests.job_machine import run_orders


@pytest.fixture
def sessions(database_url: str) -> Iterator[sessionmaker[Session]]:
    engine = sync_engine(database_url, pool_size=3)
    yield sync_sessions(engine)
    engine.dispose()


def test_no_order_of_statements_loses_or_doubles_work(sessions: sessionmaker[Session]) -> None:
    """A few orders, always the same ones; `make chaos` tries others each time."""
    run_orders(sessions, examples=10, steps=25)
