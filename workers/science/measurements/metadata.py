"""What a text's metadata asks of a measurement: an object under the measurement's name, not to be trusted."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

from workers.science.measurements.measurement import MeasuredText
from workers.science.metrics.metric import JSONObject

# `malformed`: the metadata asks for it, but not in the form that it takes. `unscorable`: a text that would be
# needed has no tokens, or one that the model has no row for, or does not fit the context.
AskedStatus = Literal["ok", "not_applicable", "malformed", "unscorable"]
ASKED_STATUSES: Final[tuple[AskedStatus, ...]] = ("ok", "not_applicable", "malformed", "unscorable")

_Asked = TypeVar("_Asked")


class MetadataMalformed(Exception):
    """The metadata asks for a measurement in a form that it does not take."""


def read_asked(
    texts: Sequence[MeasuredText], read: Callable[[MeasuredText], _Asked | None]
) -> tuple[list[AskedStatus], dict[int, _Asked]]:
    """What texts ask of a measurement.

    Args:
        texts: the texts.
        read: what a text asks; None for nothing. May raise `MetadataMalformed`.

    Returns:
        The status of each text, and what those ask that are `ok`, by their places.
    """
    statuses: list[AskedStatus] = []
    asked: dict[int, _Asked] = {}
    for place, text in enumerate(texts):
        try:
            found = read(text)
        except MetadataMalformed:
            statuses.append("malformed")
            continue
        statuses.append("not_applicable" if found is None else "ok")
        if found is not None:
            asked[place] = found
    return statuses, asked


def asked_of(text: MeasuredText, name: str, fields: frozenset[str]) -> JSONObject | None:
    """What the metadata asks of a measurement; None if it does not mention it.

    Raises:
        MetadataMalformed: it is no object, or has other fields than these.
    """
    asked = (text.metadata or {}).get(name)
    if asked is None:
        return None
    if not isinstance(asked, dict) or asked.keys() - fields:
        raise MetadataMalformed
    return asked


def string(asked: JSONObject, field: str, default: str | None = None) -> str:
    """A field that holds a string.

    Raises:
        MetadataMalformed: it holds something else, or is not there and has no default.
    """
    value = asked.get(field, default)
    if not isinstance(value, str):
        raise MetadataMalformed
    return value


def strings(asked: JSONObject, field: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
    """A field that holds a list of strings, none of them empty.

    Raises:
        MetadataMalformed: see `string`.
    """
    values = asked.get(field, default)
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) and value for value in values):
        raise MetadataMalformed
    return tuple(values)


class AskedCounts:
    """How many texts a measurement could ask about, by status."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = dict.fromkeys(ASKED_STATUSES, 0)

    def add(self, found: JSONObject) -> None:
        """Count one text."""
        self._counts[found["status"]] += 1

    def result(self) -> JSONObject | None:
        """The texts by status; None if no text was looked at."""
        return dict(self._counts) if any(self._counts.values()) else None
