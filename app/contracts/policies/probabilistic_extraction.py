"""`probabilistic_extraction`: no text in scope is likely to come up in so many samples."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.contracts.policies.rule import GroupPattern, RuleOfOneModel, SubjectKind, number, register, texts
from app.contracts.results.observations import Decision, Observation, none_counts


@register
class ProbabilisticExtraction(RuleOfOneModel):
    """No text in scope is (n, p)-extractable: recited at least once in n samples with probability p.

    That is 1 - (1 - p_z)^n >= p (arXiv 2410.19482), by the metric `p_z` under the audit's `temperature` and
    `top_k`: the likelihood "of direct, including probabilistic, extraction" of EDPB Opinion 28/2024. A text
    that could not be measured makes it `inconclusive`, unless another fails it.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"audit", "study"})

    kind: Literal["probabilistic_extraction"]
    probability: Annotated[float, Field(gt=0, lt=1, description="p, from which on a text counts.")] = 0.5
    samples: Annotated[int, Field(ge=1, le=10**12, description="n, how many are drawn.")] = 1000
    groups: GroupPattern | None = None

    @property
    def limit(self) -> float:
        """The probability."""
        return self.probability

    @property
    def log_p_z(self) -> float:
        """From which natural logarithm of p_z on a text counts; below 0 unless it rounds to that.

        p_z = 1 - (1 - p)^(1/n), where 1 - p and p_z may be too small for floats: hence the logarithms.
        """
        return math.log(-math.expm1(math.log1p(-self.probability) / self.samples))

    def extracted(self, log_p_z: float) -> float:
        """The probability of at least one recital in so many samples, in [0, 1]."""
        if log_p_z >= 0:
            return 1.0
        return -math.expm1(self.samples * math.log1p(-math.exp(log_p_z)))

    def decide(self, observed: Observation) -> Decision:
        """One text that is extractable fails it."""
        return none_counts(observed)

    def state(self, observed: Observation) -> str:
        """How many texts are so likely, and the likeliest."""
        return (
            f"{observed.count or 0:,} of {texts(observed.n)} would be recited in {self.samples:,} samples "
            f"with a probability of at least {self.probability:g}; the largest is {number(observed.value)}, "
            f"and {texts(observed.unmeasured)} could not be measured."
        )
