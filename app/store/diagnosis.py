"""What a database says of itself and of who works on it, for whoever looks for what is wrong."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import func, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.store.data_keys import InstanceKey
from app.store.rewrapping import master_keys_needed
from app.store.throughput import WorkerClass

T = TypeVar("T")


@dataclass(frozen=True)
class SeenWorker:
    """Workers of a class: how many seconds ago one last said that it was there, and of which release."""

    name: str
    queue: str
    seen_seconds: float
    release: str | None


@dataclass(frozen=True)
class DatabaseFacts:
    """What is known of a database. `revision` is None where nothing was migrated; then all below is empty.

    `version` counts as Postgres does: 160004 is 16.4. `master_keys` are those that wrapped what is stored,
    and how much; `instance_keys` are wrapped, by their names.
    """

    version: int
    now: datetime
    max_connections: int
    revision: str | None
    workers: list[SeenWorker]
    master_keys: Counter[str]
    instance_keys: dict[str, bytes]


def read_facts(session: Session) -> DatabaseFacts:
    """Read it all; a schema of another release hides the workers and the keys only.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database is away.
    """
    session.execute(text("SET statement_timeout = '5s'"))
    version, connections, now = session.execute(
        select(
            func.current_setting("server_version_num"),
            func.current_setting("max_connections"),
            func.clock_timestamp(),
        )
    ).one()
    return DatabaseFacts(
        version=int(version),
        now=now,
        max_connections=int(connections),
        revision=_revision(session),
        workers=_workers(session),
        master_keys=_if_there(session, master_keys_needed) or Counter(),
        instance_keys=_if_there(session, _instance_keys) or {},
    )


def _revision(session: Session) -> str | None:
    if session.scalar(select(func.to_regclass("alembic_version"))) is None:
        return None
    return str(session.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def _workers(session: Session) -> list[SeenWorker]:
    age = func.extract("epoch", func.clock_timestamp() - WorkerClass.last_seen_at)
    statement = select(WorkerClass.name, WorkerClass.queue, age, WorkerClass.release).order_by(age)
    rows = _if_there(session, lambda session: session.execute(statement).all()) or ()
    return [SeenWorker(name, queue, float(seconds), release) for name, queue, seconds, release in rows]


def _instance_keys(session: Session) -> dict[str, bytes]:
    return dict(session.execute(select(InstanceKey.name, InstanceKey.wrapped)).all())


def _if_there(session: Session, read: Callable[[Session], T]) -> T | None:
    """What is read; None if the schema has no such table or column."""
    try:
        with session.begin_nested():
            return read(session)
    except ProgrammingError:
        return None
