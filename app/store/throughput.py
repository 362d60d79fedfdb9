"""What workers are there, and how fast they were: both are of the instance, and no tenant's."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app import __version__
from app.contracts.throughput import JobSums
from app.settings import Queue
from app.store.core.base import Base, CreatedAt

# What each new job leaves of the weight of those before it: the last hundred or so decide.
_KEPT: Final = 0.99
# A class that was not seen for so long is no more counted on. Where workers are started as they are needed,
# one may be away for days.
_SEEN_LATELY: Final = timedelta(days=7)
# Under which sessions share what they found of the classes, and for how long that is good.
_KNOWN: Final = "recent worker classes"
_KNOWN_SECONDS: Final = 1.0
# The kind under which the loading of a language model is measured, beside those of jobs.
LOADING: Final = "load_language_model"


class WorkerClass(Base):
    """Workers alike: of the same device, memory and queue."""

    __tablename__ = "worker_classes"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    queue: Mapped[str] = mapped_column(Text, primary_key=True)
    device: Mapped[str] = mapped_column(Text)
    threads: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    last_seen_at: Mapped[CreatedAt]
    # Of the one that was there last; null of releases before it was told.
    release: Mapped[str | None] = mapped_column(Text)


class Throughput(Base):
    """Sums over the jobs of a kind that a class of workers has done: see `JobSums`."""

    __tablename__ = "throughput"

    worker_class: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    # What was measured, and of which language model; empty where that makes no difference.
    measured: Mapped[str] = mapped_column(Text, primary_key=True)
    language_model_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    parameter_count: Mapped[int | None] = mapped_column(BigInteger)
    jobs: Mapped[float]
    units: Mapped[float]
    seconds: Mapped[float]
    inverse_units: Mapped[float]
    seconds_per_unit: Mapped[float]
    updated_at: Mapped[CreatedAt]

    @property
    def sums(self) -> JobSums:
        """The sums by themselves."""
        return JobSums(**{name: getattr(self, name) for name in JobSums.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What tells a class of workers from another.

    Attributes:
        name: of the class.
        device: the GPU, or the processor.
        threads: that compute on the processor; 0 where a GPU computes.
        memory_bytes: of the GPU, or what the process may use.
    """

    name: str
    device: str
    threads: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredJob:
    """A job that succeeded.

    Attributes:
        kind: of the job, or `LOADING`.
        units: its size, as its kind counts it; 0 where all are alike.
        seconds: how long it took, without the loading of a language model.
        measured: what was measured; empty where there is nothing to tell.
        language_model_digest: of the language model; empty where that makes no difference.
        parameter_count: of the same.
    """

    kind: str
    units: float
    seconds: float
    measured: str = ""
    language_model_digest: str = ""
    parameter_count: int | None = None


def announce(session: Session, machine: Machine, queue: Queue) -> None:
    """Note that a worker of a class is there now."""
    values = {name: getattr(machine, name) for name in Machine.__slots__}
    statement = insert(WorkerClass).values(queue=queue, release=__version__, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "queue"],
            set_={
                "threads": statement.excluded.threads,
                "memory_bytes": statement.excluded.memory_bytes,
                "last_seen_at": func.clock_timestamp(),
                "release": statement.excluded.release,
            },
        )
    )


class _KnownMemory(NamedTuple):
    """What was found, and until when it is good, on the clock of the process."""

    most_bytes: int
    until: float


# Asked with each request for work: written once.
_CLASSES_SEEN_LATELY: Final = (
    select(WorkerClass)
    .where(
        WorkerClass.queue == bindparam("queue"),
        WorkerClass.last_seen_at > func.clock_timestamp() - _SEEN_LATELY,
    )
    .order_by(WorkerClass.memory_bytes.desc(), WorkerClass.name)
)


def seen_lately(session: Session, queue: Queue) -> list[WorkerClass]:
    """The classes of workers of a queue that were there in the last days, those with most memory first."""
    return list(session.scalars(_CLASSES_SEEN_LATELY, {"queue": queue}))


def most_memory_lately(session: Session, queue: Queue, enough: int) -> int | None:
    """The memory of the largest class of `seen_lately`, in bytes; None if there is none.

    Asked with each request for work, of which a service has many a second: those whose sessions share
    `with_recent_classes` ask once in `_KNOWN_SECONDS`. Only what is `enough` is taken from there, so that
    nothing is refused for want of a worker that has just come.
    """
    known: dict[Queue, _KnownMemory] = session.info.get(_KNOWN, {})
    found = known.get(queue)
    if found is not None and found.most_bytes >= enough and found.until > time.monotonic():
        return found.most_bytes
    classes = seen_lately(session, queue)
    if not classes:
        return None
    known[queue] = _KnownMemory(classes[0].memory_bytes, time.monotonic() + _KNOWN_SECONDS)
    return classes[0].memory_bytes


def with_recent_classes() -> dict[str, Any]:
    """The `info` of sessions that share for a moment what `most_memory_lately` found."""
    return {_KNOWN: {}}


def add_measurement(session: Session, machine: Machine, job: MeasuredJob) -> None:
    """Add a job to the sums of its like; each new one takes a little of the weight of the older ones."""
    sums = JobSums.of(job.units, job.seconds)
    values = {name: getattr(sums, name) for name in JobSums.__slots__}
    statement = insert(Throughput).values(
        worker_class=machine.name,
        kind=job.kind,
        measured=job.measured,
        language_model_digest=job.language_model_digest,
        parameter_count=job.parameter_count,
        **values,
    )
    added = {name: getattr(Throughput, name) * _KEPT + statement.excluded[name] for name in values}
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["worker_class", "kind", "measured", "language_model_digest"],
            set_={**added, "updated_at": func.clock_timestamp()},
        )
    )


def read_throughput(session: Session, kinds: Collection[str]) -> list[Throughput]:
    """All sums over jobs of these kinds."""
    return list(session.scalars(select(Throughput).where(Throughput.kind.in_(kinds))))
