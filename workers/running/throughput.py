"""How long jobs take: each that succeeds is measured, and added to what is known of its like and counted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.store.counters import Counts, add_counts, of_tokens
from app.store.jobs.kinds import COLLECT_FACTORS, RUN_EDIT, SCORE_SHARD
from app.store.language_models import LanguageModel
from app.store.throughput import LOADING, Machine, MeasuredJob, add_measurement

log = structlog.get_logger()

# Kinds of jobs whose size is in tokens that go through a language model.
_IN_TOKENS: Final = frozenset({SCORE_SHARD.name, COLLECT_FACTORS.name, RUN_EDIT.name})


class Meter:
    """Measures the job that a process runs. Loading a language model is measured apart from it.

    A job need not know of it: then all jobs of its kind count as alike.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A job begins with its claim; what was noted of the one before is forgotten."""
        self._began = self._clock()
        self._seconds_apart = 0.0
        self._loaded: list[MeasuredJob] = []
        self._size: tuple[float, str, LanguageModel | None] = (0.0, "", None)

    def note(self, units: float, measured: str = "", language_model: LanguageModel | None = None) -> None:
        """Say how large the job is.

        Args:
            units: as its kind counts them; the time that a job takes grows with them.
            measured: what is measured, as far as that decides how long a unit takes.
            language_model: whose size decides it too.
        """
        self._size = (units, measured, language_model)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What happens within is no part of the job: not every job of its kind has it."""
        began = self._clock()
        try:
            yield
        finally:
            self._seconds_apart += self._clock() - began

    @contextmanager
    def loading(self, language_model: LanguageModel) -> Iterator[None]:
        """A language model is loaded within, which is measured by itself."""
        before = self._seconds_apart
        with self.apart():
            yield
        seconds = self._seconds_apart - before
        self._loaded.append(_measured(LOADING, seconds, 0.0, "", language_model))

    def read(self, kind: str) -> list[MeasuredJob]:
        """The job that has just ended, and what was loaded for it. The next one begins."""
        seconds = self._clock() - self._began - self._seconds_apart
        measured = [_measured(kind, seconds, *self._size), *self._loaded]
        self.begin()
        return measured


def _measured(
    kind: str, seconds: float, units: float, measured: str, language_model: LanguageModel | None
) -> MeasuredJob:
    return MeasuredJob(
        kind=kind,
        units=units,
        seconds=seconds,
        measured=measured,
        language_model_digest="" if language_model is None else language_model.digest or "",
        parameter_count=None if language_model is None else language_model.parameter_count,
    )


def record(
    sessions: sessionmaker[Session], machine: Machine, jobs: list[MeasuredJob], counts: Counts | None = None
) -> None:
    """Add jobs to what is known of their like, and counts to those of the instance.

    Should that fail, less is known, and nothing else is wrong.
    """
    counts = counts or Counts()
    for job in jobs:
        if job.kind in _IN_TOKENS:
            counts.add(of_tokens(job.kind, job.units))
    try:
        with sessions.begin() as session:
            add_counts(session, counts)
            # In one order, so that no two workers wait for each other.
            for job in sorted(jobs, key=lambda job: (job.kind, job.measured, job.language_model_digest)):
                add_measurement(session, machine, job)
    except SQLAlchemyError as error:
        log.warning("throughput_not_recorded", error=type(error).__name__)
