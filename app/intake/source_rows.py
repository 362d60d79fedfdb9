"""One row of a published data set, read by the names of its columns."""

from typing import Any

import orjson


class ColumnMissing(Exception):
    """A row lacks a column, or it holds another kind of value. The text names the column and no value."""


class SourceRow:
    """A row whose columns are asked for by path: `meta.goal` is `goal` in the object that `meta` holds.

    An object that stands in a string, as JSON, is read when it is first asked for.
    """

    def __init__(self, columns: object) -> None:
        self._columns = columns
        self._parsed: dict[str, object] = {}

    def text(self, path: str) -> str:
        """A string.

        Raises:
            ColumnMissing: there is none at this path.
        """
        value = self._value(path)
        if not isinstance(value, str):
            raise ColumnMissing(path)
        return value

    def texts(self, path: str, count: int | None = None) -> list[str]:
        """A list of strings, or such a list as JSON in a string; of `count` if given, else not empty.

        Raises:
            ColumnMissing: there is none at this path.
        """
        value = self._value(path)
        if isinstance(value, str):
            value = _parsed(path, value)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ColumnMissing(path)
        if len(value) != count if count is not None else not value:
            raise ColumnMissing(path)
        return value

    def number(self, path: str, *, below: int | None = None) -> int:
        """A whole number from 0, or such a number in a string.

        Raises:
            ColumnMissing: there is none at this path, or it is not below the limit.
        """
        value = self._value(path)
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ColumnMissing(path)
        if below is not None and value >= below:
            raise ColumnMissing(path)
        return value

    def _value(self, path: str) -> Any:
        column, _, name = path.partition(".")
        if not isinstance(self._columns, dict) or column not in self._columns:
            raise ColumnMissing(column)
        value = self._columns[column]
        if not name:
            return value
        if isinstance(value, str):
            value = self._object_in(column, value)
        if not isinstance(value, dict) or name not in value:
            raise ColumnMissing(path)
        return value[name]

    def _object_in(self, column: str, value: str) -> object:
        if column not in self._parsed:
            self._parsed[column] = _parsed(column, value)
        return self._parsed[column]


def _parsed(path: str, value: str) -> object:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ColumnMissing(path) from None
