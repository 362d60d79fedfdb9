"""Telling a database that is away, or busy with others, from one that answers, be it with an error."""

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

# Class 08 is a connection that broke. The others: it shuts down, it crashed, it is starting up.
_CONNECTION_CLASS: Final = "08"
_GONE: Final = frozenset({"57P01", "57P02", "57P03"})
_CONFLICTS: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


def database_is_away(error: BaseException) -> bool:
    """Whether a failure means that the connection to the database was lost, or could not be made.

    The driver calls much else an operational error: a lock that was not given, a row that is too long for its
    index. The database answered then, and would answer the same again.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is not None:
        return cause.sqlstate.startswith(_CONNECTION_CLASS) or cause.sqlstate in _GONE
    # The server has said nothing: there is no connection, or the driver itself refuses the statement.
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or error.statement is None
    return isinstance(cause, psycopg.OperationalError)


def others_are_ahead(error: BaseException) -> bool:
    """Whether a transaction failed because of another one; the same may get through a moment later."""
    return isinstance(error.orig if isinstance(error, DBAPIError) else error, _CONFLICTS)
