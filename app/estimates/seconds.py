"""How long jobs take on a class of workers, from what was measured of their like."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from app.contracts.throughput import JobSums, Line
from app.estimates.schemas import SecondsBasis
from app.estimates.work import Jobs
from app.store.language_models import LanguageModel
from app.store.throughput import LOADING, Throughput

# The worse of two comes last.
_ORDER: Final[tuple[SecondsBasis, ...]] = ("measured", "scaled", "unknown")


class Speeds:
    """What is known of how fast workers are.

    Args:
        rows: all sums over jobs of the kinds that matter.
    """

    def __init__(self, rows: Iterable[Throughput]) -> None:
        self._rows: dict[str, list[Throughput]] = defaultdict(list)
        for row in rows:
            self._rows[row.kind].append(row)

    def seconds(self, worker_class: str, jobs: Sequence[Jobs]) -> tuple[float | None, SecondsBasis]:
        """How long one worker of a class takes for jobs one after the other, and what that stands on.

        A job that needs no language model and was never measured counts for nothing.
        """
        total, worst = 0.0, _ORDER[0]
        for each in jobs:
            line, basis = self._line(worker_class, each)
            if line is not None:
                total += line.seconds(each.count, each.units)
                worst = max(worst, basis, key=_ORDER.index)
            elif each.language_model is not None:
                return None, "unknown"
        return total, worst

    def loading_seconds(self, worker_class: str, language_models: Iterable[LanguageModel]) -> float | None:
        """How long loading takes, one after the other; None if it is not known of one of them."""
        loads = [Jobs(LOADING, 1, 1.0, language_model=each) for each in language_models]
        return self.seconds(worker_class, loads)[0]

    def _line(self, worker_class: str, jobs: Jobs) -> tuple[Line | None, SecondsBasis]:
        """What a job and a unit cost: of the same, of the same language model, of others by their size."""
        rows = [row for row in self._rows[jobs.kind] if row.worker_class == worker_class]
        language_model = jobs.language_model
        if language_model is None:
            # Workers of another class may have done all of these.
            return _through(row.sums for row in rows or self._rows[jobs.kind]), "measured"
        same = [row for row in rows if row.language_model_digest == language_model.digest]
        exactly = [row for row in same if row.measured == jobs.measured]
        if same:
            return _through(row.sums for row in exactly or same), "measured" if exactly else "scaled"
        alike = [row for row in rows if row.measured == jobs.measured]
        return _by_size(alike or rows, language_model.parameter_count), "scaled"


def _by_size(rows: Sequence[Throughput], parameter_count: int | None) -> Line | None:
    """The line in tokens of a language model of a size: computing grows with tokens times parameters."""
    if parameter_count is None:
        return None
    line = _through(row.sums.in_units_of(row.parameter_count) for row in rows if row.parameter_count)
    return None if line is None else Line(line.per_job, line.per_unit * parameter_count)


def _through(some: Iterable[JobSums]) -> Line | None:
    total = sum(some, start=JobSums())
    return total.line() if total.jobs else None
