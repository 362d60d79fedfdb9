"""A check, what it finds, and the run of them all: each within a time of its own, so that none hangs."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from app.settings import Settings
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.diagnosis import DatabaseFacts, read_facts

_SECONDS: Final = 10.0
_ALL_IS_WELL: Final = ""


class Outcome(StrEnum):
    """How a check ends."""

    OK = "ok"
    WARN = "warn"  # it runs, but not as it should, or something could not be looked at
    FAIL = "fail"  # work will fail, or nothing runs at all


@dataclass(frozen=True)
class Finding:
    """What a check has found, in one sentence, and what to do about it."""

    outcome: Outcome
    found: str
    advice: str = _ALL_IS_WELL


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(Outcome.OK, found)


def warn(found: str, advice: str) -> Finding:
    """It runs, but not as it should."""
    return Finding(Outcome.WARN, found, advice)


def fail(found: str, advice: str) -> Finding:
    """It does not run."""
    return Finding(Outcome.FAIL, found, advice)


class Unseen(Exception):
    """Something could not be looked at, since something else is away that another check tells of."""


class Patient:
    """The set-up that is looked at; what several checks need is read once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def database(self) -> DatabaseFacts:
        """What the database says of itself.

        Raises:
            Unseen: it is away, or none is set.
        """
        if isinstance(self._database, Unseen):
            raise self._database
        return self._database

    @cached_property
    def _database(self) -> DatabaseFacts | Unseen:
        if self.settings.database_url is None:
            return Unseen("no database is set")
        engine = sync_engine(self.settings.require_database_url(), pool_size=1)
        try:
            with sync_sessions(engine)() as session:
                return read_facts(session)
        except SQLAlchemyError:
            # What it says is left out: it may hold a password.
            return Unseen("Postgres cannot be reached")
        finally:
            engine.dispose()


@dataclass(frozen=True)
class Check:
    """A thing to look at; `seconds` is how long that may take."""

    name: str
    run: Callable[[Patient], Finding]
    seconds: float = _SECONDS


@dataclass(frozen=True)
class Result:
    """A check and what it has found."""

    check: Check
    finding: Finding


def examine(patient: Patient, checks: Sequence[Check], begin: Callable[[Check], object]) -> Iterator[Result]:
    """Run checks one after another; `begin` is told of each before it runs."""
    for check in checks:
        begin(check)
        yield Result(check, _within_time(check, patient))


def _within_time(check: Check, patient: Patient) -> Finding:
    found: list[Finding] = []
    # A daemon: one that hangs, as on a disk of the network that is gone, does not keep us from ending.
    thread = threading.Thread(target=lambda: found.append(_run(check, patient)), daemon=True)
    thread.start()
    thread.join(check.seconds)
    if found:
        return found[0]
    return fail(
        f"There was no answer within {check.seconds:.0f} seconds.",
        "See whether what it looks at (a disk, a server, a driver) hangs.",
    )


def _run(check: Check, patient: Patient) -> Finding:
    try:
        return check.run(patient)
    except Unseen as unseen:
        return warn(f"It was not looked at, since {unseen}.", "Mend that first.")
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide what the others find
        return fail(
            f"The check itself broke ({type(error).__name__}).", "Report it, with the output of this command."
        )
