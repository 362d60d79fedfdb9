"""A sample of rows that come one by one, as many as one has room for."""

import random
from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Reservoir:
    """A simple random sample of rows without replacement; all of them as long as there is room.

    Each row is in it with the same probability, whatever its place (Vitter 1985, "Random sampling with a
    reservoir", algorithm R). The same rows in the same order and the same seed give the same sample.

    Args:
        columns: numbers in a row.
        room: how many rows are kept at most.
        seed: of what is drawn at random.

    Attributes:
        rows: how many came.
    """

    def __init__(self, columns: int, *, room: int, seed: int) -> None:
        self.rows = 0
        self._columns = columns
        self._room = room
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._kept = array("d")

    def __len__(self) -> int:
        """How many rows are kept."""
        return min(self.rows, self._room)

    def add(self, row: Sequence[float]) -> None:
        """Take a row in."""
        self.rows += 1
        if self.rows <= self._room:
            self._kept.extend(row)
            return
        place = self._random.randrange(self.rows)
        if place < self._room:
            self._kept[place * self._columns : (place + 1) * self._columns] = array("d", row)

    def column(self, number: int) -> npt.NDArray[np.float64]:
        """A number of each row that is kept [kept]."""
        return np.array(self._kept[number :: self._columns], dtype=np.float64)
