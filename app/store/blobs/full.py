"""Telling a full disk, database or bucket from every other failure."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from obstore.exceptions import BaseError
from sqlalchemy.exc import DBAPIError

from app.errors import StorageFull

_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# How object stores say it: the operating system's error numbers, S3's and its imitators' codes.
_WORDS: Final = re.compile(
    rf"(os error|code:) ({errno.ENOSPC}|{errno.EDQUOT})\b"
    r"|507 Insufficient Storage|InsufficientStorage|StorageFull|QuotaExceeded|EntityTooLarge"
)


def is_storage_full(error: BaseException) -> bool:
    """Whether a failure was caused by a lack of room."""
    if isinstance(error, StorageFull | psycopg.errors.DiskFull):
        return True
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    if (isinstance(error, BaseError | OSError) or _is_of_safetensors(error)) and _WORDS.search(str(error)):
        return True
    if isinstance(error, DBAPIError) and error.orig is not None:
        return is_storage_full(error.orig)
    return error.__cause__ is not None and is_storage_full(error.__cause__)


def _is_of_safetensors(error: BaseException) -> bool:
    """Told by its name: the API, which shares this code, has no safetensors."""
    return type(error).__name__ == "SafetensorError"


@contextmanager
def storage_full_named() -> Iterator[None]:
    """Turn every failure that a lack of room caused into `StorageFull`.

    Raises:
        StorageFull: the block failed for a lack of room.
    """
    try:
        yield
    except StorageFull:
        raise
    except Exception as error:
        if not is_storage_full(error):
            raise
        raise StorageFull(
            "The disk of the database, of the artifact store or of the worker is full. "
            "Make room, then request the work again."
        ) from error
