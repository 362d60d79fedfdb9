"""Failures in plain words on stderr, and the exit statuses of `memaudit`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.embedded.errors import EmbeddedError
from app.errors import KeyUnavailable, SealBroken
from app.store.core.away import database_is_away, others_are_ahead
from memaudit import MemauditError, ServiceUnreachable


class ExitStatus(IntEnum):
    """What the exit status of a command says."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3


def fail(message: str, status: ExitStatus) -> typer.Exit:
    """Say on stderr what went wrong; the exception to raise."""
    typer.echo(f"memaudit: {message}", err=True)
    return typer.Exit(status)


def _told_by_postgres(error: OperationalError) -> str:
    """What an answer of the database means that is none about the statement itself."""
    told = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error.orig).__name__).lower()
    if others_are_ahead(error):
        return (
            f"other processes are using what this changes ({told}); run it again, it goes on where it stopped"
        )
    return f"Postgres has not done what it was asked ({told}); its log says why"


@contextmanager
def explained() -> Iterator[None]:
    """Turn the failures that a person can act on into one line and an exit status."""
    try:
        yield
    except ServiceUnreachable as error:
        raise fail(str(error), ExitStatus.UNREACHABLE) from error
    except (EmbeddedError, MemauditError) as error:
        raise fail(str(error), ExitStatus.FAILED) from error
    except (KeyUnavailable, SealBroken) as error:
        raise fail(error.detail, ExitStatus.FAILED) from error
    except ValidationError as error:
        names = ", ".join(
            f"MEMAUDIT_{str(problem['loc'][0]).upper()} ({problem['msg']})" for problem in error.errors()
        )
        raise fail(f"these settings are wrong: {names}", ExitStatus.USAGE) from error
    except ValueError as error:
        raise fail(f"{error}; set it, or start `memaudit up` first", ExitStatus.USAGE) from error
    except OperationalError as error:
        if database_is_away(error):
            unreachable = "Postgres cannot be reached; check MEMAUDIT_DATABASE_URL"
            raise fail(unreachable, ExitStatus.UNREACHABLE) from error
        raise fail(_told_by_postgres(error), ExitStatus.FAILED) from error
    except ProgrammingError as error:
        raise fail("the schema is not this release's; run `memaudit migrate`", ExitStatus.FAILED) from error
