"""`equivalent_duplicates`: no text stands out as one that was inserted more than so often."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.contracts.policies.rule import GroupPattern, PolicyRule, SubjectKind, number, register, texts
from app.contracts.results.observations import Decision, Observation, none_counts


@register
class EquivalentDuplicates(PolicyRule):
    """No text in scope is worth more than `at_most` known insertions.

    By the `equivalent_duplicates` of an audit's texts of unknown number, and the 95 % interval of each: a
    text counts if its whole interval is above the limit, and is undecided if the limit lies within. No
    correction is made for there being many texts.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"audit"})

    kind: Literal["equivalent_duplicates"]
    at_most: Annotated[float, Field(ge=0, le=2**53, description="How many insertions.")]
    groups: GroupPattern | None = None

    @property
    def limit(self) -> float:
        """How many insertions."""
        return self.at_most

    def decide(self, observed: Observation) -> Decision:
        """One text above the limit fails it."""
        return none_counts(observed)

    def state(self, observed: Observation) -> str:
        """How many texts are above the limit."""
        return (
            f"{observed.count or 0:,} of {texts(observed.n)} are worth more than {self.at_most:g} insertions "
            f"by their whole interval, and {observed.undecided:,} by a part of it; the largest number is "
            f"{number(observed.value)}, and {texts(observed.unmeasured)} could not be compared."
        )
