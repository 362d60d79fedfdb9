"""`mean_difference`: a language model has memorized texts no more strongly than its baseline."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.contracts.base import Name
from app.contracts.policies.rule import PolicyRule, SubjectKind, number, register, texts
from app.contracts.results.observations import Decision, Observation, within_limit
from app.contracts.studies import StudyKind


@register
class MeanDifference(PolicyRule):
    """Mean `nl` of the second model of a pair is at most `at_most` above that of the first.

    By the study's paired difference and its 95 % interval.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"study"})
    study_kinds: ClassVar[frozenset[StudyKind]] = frozenset({"pair"})

    kind: Literal["mean_difference"]
    at_most: Annotated[float, Field(ge=-1000, le=1000, description="In nats per token.")]
    group: Annotated[Name, Field(description="Of the texts of this group; null for all texts.")] | None = None

    @property
    def limit(self) -> float:
        """The difference."""
        return self.at_most

    def decide(self, observed: Observation) -> Decision:
        """By the interval."""
        return within_limit(observed, self.at_most)

    def state(self, observed: Observation) -> str:
        """The difference and its interval."""
        if observed.value is None:
            return "The models could be compared on no text in scope."
        return (
            f"Mean NL of {texts(observed.n)} is {number(observed.value)} nats per token higher under the "
            f"second model (95 % interval {number(observed.low)} to {number(observed.high)}); "
            f"{self.at_most:g} is allowed."
        )
