"""Failures in plain words on stderr, and the exit statuses of `memaudit`."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.embedded.errors import EmbeddedError
from app.errors import KeyUnavailable, SealBroken
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
        raise fail(
            "Postgres cannot be reached; check MEMAUDIT_DATABASE_URL", ExitStatus.UNREACHABLE
        ) from error
    except ProgrammingError as error:
        raise fail("the schema is not this release's; run `memaudit migrate`", ExitStatus.FAILED) from error
