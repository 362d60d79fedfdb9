"""`no_memorized_text`: no text in scope is told from the controls."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.contracts.policies.rule import (
    Detects,
    GroupPattern,
    PolicyRule,
    SubjectKind,
    number,
    register,
    texts,
)
from app.contracts.results.observations import Decision, Observation, none_counts


@register
class NoMemorizedText(PolicyRule):
    """No text in scope has a q-value of at most `q`: none stands out from the audit's control texts.

    For an audit with a `control_text_set`. The q-values are those of its scores, over all its texts.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"audit"})

    kind: Literal["no_memorized_text"]
    q: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of false ones accepted among the texts that are named."),
    ] = 0.05
    detects: Detects = 1
    groups: GroupPattern | None = None

    @property
    def limit(self) -> float:
        """The q-value."""
        return self.q

    def decide(self, observed: Observation) -> Decision:
        """A text at or below the limit fails. A pass takes controls enough for so few texts to get there."""
        decision = none_counts(observed)
        if decision.outcome == "pass" and (observed.least_q is None or observed.least_q > self.q):
            return Decision("inconclusive", "too_few_controls")
        return decision

    def state(self, observed: Observation) -> str:
        """How many texts have such a q-value."""
        return (
            f"{observed.count or 0:,} of {texts(observed.n)} with a q-value have one of at most {self.q:g}; "
            f"the least is {number(observed.value)}, and {texts(observed.unmeasured)} could not be judged. "
            f"With {self.detects:,} above all controls the least would be {number(observed.least_q)}."
        )
