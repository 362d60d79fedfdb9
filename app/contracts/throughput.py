"""What measured jobs say of jobs to come: sums over them, and the line through them.

A job takes about a + b·units seconds. How far it is off grows with its size, so that the line is fitted with
the weight 1/units for each job: weighted least squares, of which these sums are all that has to be kept.
"""

from dataclasses import dataclass
from typing import Final

# Jobs of about one size tell a share of it that each job costs by itself from noise: then all is by the unit.
_LEAST_SPREAD: Final = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """A cost in seconds: so much for each job, and so much for each unit; neither is negative."""

    per_job: float
    per_unit: float

    def seconds(self, jobs: int, units: float) -> float:
        """Of so many jobs of so many units in all; each has one at least, as those that were measured."""
        return self.per_job * jobs + self.per_unit * max(units, float(jobs))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSums:
    """Sums over measured jobs of x units, which are at least 1, and y seconds. Older jobs may count for less.

    Attributes:
        jobs: how many.
        units: Σx.
        seconds: Σy.
        inverse_units: Σ1/x.
        seconds_per_unit: Σy/x.
    """

    jobs: float = 0.0
    units: float = 0.0
    seconds: float = 0.0
    inverse_units: float = 0.0
    seconds_per_unit: float = 0.0

    @classmethod
    def of(cls, units: float, seconds: float) -> "JobSums":
        """The sums of one job."""
        x = max(units, 1.0)
        return cls(jobs=1.0, units=x, seconds=seconds, inverse_units=1 / x, seconds_per_unit=seconds / x)

    def __add__(self, other: "JobSums") -> "JobSums":
        return JobSums(
            jobs=self.jobs + other.jobs,
            units=self.units + other.units,
            seconds=self.seconds + other.seconds,
            inverse_units=self.inverse_units + other.inverse_units,
            seconds_per_unit=self.seconds_per_unit + other.seconds_per_unit,
        )

    def in_units_of(self, size: float) -> "JobSums":
        """The same jobs, each of whose units is `size` smaller ones."""
        return JobSums(
            jobs=self.jobs,
            units=self.units * size,
            seconds=self.seconds,
            inverse_units=self.inverse_units / size,
            seconds_per_unit=self.seconds_per_unit / size,
        )

    def line(self) -> Line:
        """The line through the jobs that minimises Σ(y - a - b·x)²/x among those with a, b >= 0.

        Raises:
            ValueError: there is no job.
        """
        if self.jobs <= 0:
            raise ValueError("no job was measured")
        spread = self.inverse_units * self.units - self.jobs**2
        if spread <= _LEAST_SPREAD * self.jobs**2:
            return Line(0.0, self.seconds / self.units)
        per_unit = (self.inverse_units * self.seconds - self.jobs * self.seconds_per_unit) / spread
        per_job = (self.units * self.seconds_per_unit - self.jobs * self.seconds) / spread
        if per_job < 0:
            return Line(0.0, self.seconds / self.units)
        if per_unit < 0:
            return Line(self.seconds_per_unit / self.inverse_units, 0.0)
        return Line(per_job, per_unit)
