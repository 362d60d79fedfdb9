"""How far an edit has come: stages of fixed shares, reported as per cent."""

from collections.abc import Callable, Mapping
from typing import Final

from app.contracts.edit_methods.registry import METHOD_ENDS
from app.contracts.edits import EditEvaluation
from workers.running.lease_keeper import LeaseKeeper

# Where the stages of every edit begin, in per cent; those of its method are between loading and writing. The
# shares are those of a K-FAC edit of a small model on a CPU.
STAGES: Final = {"loading": 0, "writing": METHOD_ENDS, "evaluating": 70, "storing": 95}

# What a proof goes through after that, as far as it was asked for.
_STRESSING: Final = {"stressing": 76}
_FULL: Final = {"reading_layers": 84, "generating": 86, "relearning": 87}
_REFERENCE: Final = {"comparing_reference": 91}


def stages_of_proof(evaluation: EditEvaluation) -> dict[str, int]:
    """The stages of a proof beside `evaluating`, each with the per cent at which it begins."""
    stages = dict(_STRESSING) if evaluation.stress else {}
    if evaluation.stress == "full":
        stages |= _FULL
    return stages if evaluation.reference_model is None else stages | _REFERENCE


class EditProgress:
    """Tells the lease keeper the stage and the per cent; this is also where an edit learns to stop.

    Args:
        keeper: of the edit's job.
        stages: of its method and its proof, each with the per cent at which it begins.
        already: per cent that earlier jobs of the edit have done; it never shows less than it has shown.
    """

    def __init__(self, keeper: LeaseKeeper, stages: Mapping[str, int], already: int = 0) -> None:
        self._keeper = keeper
        self._begins = STAGES | dict(stages)
        self._percent = already
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
        start = self._begins[self._stage]
        end = min((begin for begin in self._begins.values() if begin > start), default=100)
        percent = start + (end - start) * done // max(1, total)
        self._percent = max(percent, self._percent)
        self.repeat()

    def repeat(self) -> None:
        """Say again what was said last, to learn whether to stop.

        Raises:
            LeaseLost, Stopping: see `LeaseKeeper.report`.
        """
        self._keeper.report(self._percent, stage=self._stage)

    def counter(self, total: int) -> Callable[[int], None]:
        """A function that takes how many of `total` are done."""
        return lambda done: self.report(done, total)
