"""`perplexity`: an edit leaves the perplexity of clean text about as it was."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.contracts.policies.rule import PolicyRule, Subject, SubjectKind, percent, register
from app.contracts.results.observations import Decision, Observation, within_limit
from app.contracts.texts import TextSetRole


@register
class Perplexity(PolicyRule):
    """The perplexity of clean text grows by at most a share `max_increase`.

    By the edit's evaluation and its 95 % interval: it passes if all of the interval keeps the limit, and
    fails if all of it breaks it.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"edit"})

    kind: Literal["perplexity"]
    max_increase: Annotated[float, Field(ge=0, le=100, description="The share, as 0.1 for 10 %.")] = 0.1

    @property
    def limit(self) -> float:
        """The share."""
        return self.max_increase

    def refusal(self, subject: Subject) -> str | None:
        """Also if the edit was given no clean text."""
        if subject.kind == "edit" and TextSetRole.CLEAN not in subject.text_sets:
            return "no_such_texts"
        return super().refusal(subject)

    def decide(self, observed: Observation) -> Decision:
        """By the interval."""
        return within_limit(observed, self.max_increase)

    def state(self, observed: Observation) -> str:
        """The increase and its interval."""
        if observed.value is None or observed.low is None or observed.high is None:
            return "How much the perplexity of clean text grew is not known."
        return (
            f"The perplexity of clean text grew by {percent(observed.value)} (95 % interval "
            f"{percent(observed.low)} to {percent(observed.high)}); {percent(self.max_increase)} is allowed."
        )
