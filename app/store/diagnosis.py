"""What a database says of itself and of who works on it, for whoever looks for what is wrong."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, union
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from app.store.data_keys import InstanceKey, TextSetKey
from app.store.throughput import WorkerClass


@dataclass(frozen=True)
class SeenWorker:
    """Workers of a class: how many seconds ago one last said that it was there, and of which release."""

    name: str
    queue: str
    seen_seconds: float
    release: str | None


@dataclass(frozen=True)
class DatabaseFacts:
    """What is known of a database. `revision` is None where nothing was migrated, the rest then empty.

    `master_keys` are the ids of those that are needed to read the texts in it.

    `version` counts as Postgres does: 160004 is 16.4.
    """

    version: int
    now: datetime
    max_connections: int
    revision: str | None
    workers: list[SeenWorker]
    master_keys: frozenset[str]


def read_facts(session: Session) -> DatabaseFacts:
    """Read it all; a schema of another release hides workers and keys only.

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
        master_keys=_master_keys(session),
    )


def _revision(session: Session) -> str | None:
    if session.scalar(select(func.to_regclass("alembic_version"))) is None:
        return None
    return str(session.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def _workers(session: Session) -> list[SeenWorker]:
    age = func.extract("epoch", func.clock_timestamp() - WorkerClass.last_seen_at)
    statement = select(WorkerClass.name, WorkerClass.queue, age, WorkerClass.release).order_by(age)
    try:
        with session.begin_nested():
            return [
                SeenWorker(name, queue, float(seconds), release)
                for name, queue, seconds, release in session.execute(statement)
            ]
    except ProgrammingError:
        return []


def _master_keys(session: Session) -> frozenset[str]:
    used = union(select(InstanceKey.master_key_id), select(TextSetKey.master_key_id))
    try:
        with session.begin_nested():
            return frozenset(session.scalars(used))
    except ProgrammingError:
        return frozenset()
