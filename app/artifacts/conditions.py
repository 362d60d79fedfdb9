"""Conditional requests and ranges (RFC 9110, sections 13 and 14) for files named by their SHA-256."""

import re
from dataclasses import dataclass
from typing import Final

from app.errors import PreconditionFailed, RangeNotSatisfiable

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_RANGE: Final = re.compile(r"bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """Which bytes [start, stop) of a file to send; a part of it is a 206."""

    start: int
    stop: int
    partial: bool


def etag_of(sha256: str) -> str:
    """The strong entity tag of a file."""
    return f'"{sha256}"'


def require_match(if_match: str | None, sha256: str) -> None:
    """Check `If-Match`.

    Raises:
        PreconditionFailed: it names other files only.
    """
    if if_match is None or if_match.strip() == "*":
        return
    # A weak tag never matches here.
    if not any(tag == sha256 and not weak for weak, tag in _TAG.findall(if_match)):
        raise PreconditionFailed("The file is not the one that If-Match names; its ETag is its SHA-256.")


def is_unmodified(if_none_match: str | None, sha256: str) -> bool:
    """Whether `If-None-Match` says that the client has the file already."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or any(tag == sha256 for _, tag in _TAG.findall(if_none_match))


def select_range(header: str | None, if_range: str | None, sha256: str, size: int) -> Selection:
    """Which bytes a `Range` asks for.

    The whole file is sent where there is no range, where it has several parts or cannot be read, and where
    `If-Range` names another file (or a date: files have none).

    Raises:
        RangeNotSatisfiable: it begins after the end of the file.
    """
    whole = Selection(0, size, partial=False)
    matched = _RANGE.fullmatch(header.strip()) if header is not None else None
    if matched is None or (if_range is not None and if_range.strip() != etag_of(sha256)):
        return whole
    first, last, suffix = (None if digits is None else int(digits) for digits in matched.groups())
    if suffix is not None:
        first = max(size - suffix, 0)
    assert first is not None
    if last is not None and last < first:
        return whole
    if first >= size:
        raise RangeNotSatisfiable(
            f"The range begins after the end of the file, which has {size} bytes.", size
        )
    return Selection(first, size if last is None else min(last + 1, size), partial=True)
