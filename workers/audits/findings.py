"""What a finishing job finds of single texts: by column as it is computed, by row as it is stored."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import reduce
from itertools import groupby
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from app.store.score_findings import FindingRow

Places = Sequence[int] | npt.NDArray[np.intp]


class Findings:
    """Columns of `score_findings` for the texts of an audit."""

    def __init__(self, audit_id: UUID, texts: int) -> None:
        self._audit_id = audit_id
        self._texts = texts
        self._columns: dict[str, npt.NDArray[Any]] = {}

    def put(self, column: str, places: Places, values: Sequence[Any] | npt.NDArray[np.float64]) -> None:
        """Note what was found of the texts at some places; of the others nothing."""
        of = np.asarray(values)
        # Eight bytes a text: numbers with NaN for what was not found, or names with None.
        numbers = of.dtype.kind == "f"
        found = np.full(self._texts, np.nan if numbers else None, dtype=np.float64 if numbers else object)
        found[np.asarray(places, dtype=np.intp)] = values
        self._columns[column] = found

    def rows(self) -> Iterator[FindingRow]:
        """A row for each text of which anything was found."""
        for ordinal, row in enumerate(zip(*self._columns.values(), strict=True)):
            values = [_plain(value) for value in row]
            if any(value is not None for value in values):
                yield FindingRow(
                    audit_id=self._audit_id, ordinal=ordinal, **dict(zip(self._columns, values, strict=True))
                )


def merged(rows: Iterable[FindingRow], others: Iterable[FindingRow]) -> Iterator[FindingRow]:
    """One row for each text, of two that know different columns of it; all come by ordinal."""
    for _, same in groupby(heapq.merge(rows, others, key=_ordinal), key=_ordinal):
        yield reduce(_with, same)


def _with(row: FindingRow, other: FindingRow) -> FindingRow:
    return replace(row, **{name: value for name, value in asdict(other).items() if value is not None})


def _ordinal(row: FindingRow) -> int:
    return row.ordinal


def _plain(value: Any) -> Any:
    """A number as Python has it, None for NaN."""
    if not isinstance(value, np.floating):
        return value
    return None if np.isnan(value) else float(value)
