"""What a finishing job finds of single texts: by column as it is computed, by row as it is stored."""

from collections.abc import Iterator, Sequence
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
        self._columns: dict[str, list[Any]] = {}

    def put(self, column: str, places: Places, values: Sequence[Any] | npt.NDArray[np.float64]) -> None:
        """Note what was found of the texts at some places; of the others nothing."""
        found = self._columns[column] = [None] * self._texts
        for place, value in zip(np.asarray(places).tolist(), _plain(values), strict=True):
            found[place] = value

    def rows(self) -> Iterator[FindingRow]:
        """A row for each text of which anything was found."""
        for ordinal, values in enumerate(zip(*self._columns.values(), strict=True)):
            if any(value is not None for value in values):
                yield FindingRow(
                    audit_id=self._audit_id, ordinal=ordinal, **dict(zip(self._columns, values, strict=True))
                )


def _plain(values: Sequence[Any] | npt.NDArray[np.float64]) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values
