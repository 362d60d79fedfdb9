"""How far an edit has come: stages of fixed shares, reported as per cent."""

from collections.abc import Callable
from typing import Final

from workers.running.lease_keeper import LeaseKeeper

# Where each stage begins, in per cent. The shares are those of a K-FAC edit of a small model on a CPU.
STAGES: Final = {
    "loading": 0,
    "collecting_factors": 5,
    "learning_mask": 5,
    "decomposing": 40,
    "searching": 45,
    "writing": 65,
    "evaluating": 70,
    "storing": 95,
}


class EditProgress:
    """Tells the lease keeper the stage and the per cent; this is also where an edit learns to stop."""

    def __init__(self, keeper: LeaseKeeper) -> None:
        self._keeper = keeper
        self._stage = "loading"

    def enter(self, stage: str) -> None:
        """Begin a stage.

        Raises:
            LeaseLost, Stopping: see `LeaseKeeper.report`.
        """
        self._stage = stage
        self.report(0, 1)

    def report(self, done: int, total: int) -> None:
        """Note how much of the stage is done.

        Raises:
            LeaseLost, Stopping: see `LeaseKeeper.report`.
        """
        start = STAGES[self._stage]
        end = min((begin for begin in STAGES.values() if begin > start), default=100)
        self._keeper.report(start + (end - start) * done // max(1, total), stage=self._stage)

    def counter(self, total: int) -> Callable[[int], None]:
        """A function that takes how many of `total` are done."""
        return lambda done: self.report(done, total)
