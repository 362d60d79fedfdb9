"""What a gate decides of a subject: each rule's outcome and what it rests on.

The decision is a pure function of the rule and what was observed, so that whoever holds both can repeat it.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import Field

from app.contracts.base import Described
from app.contracts.policies import PolicyRule
from app.contracts.policies.policy import Rule
from app.contracts.results.evaluations import Outcome
from app.contracts.results.observations import Decision, Observation
from app.contracts.results.reasons import Reason

__all__ = [
    "GATE_EVENTS",
    "MOST_DECIDING",
    "Decision",
    "Observation",
    "Outcome",
    "RuleOutcome",
    "decide",
    "overall",
]

MOST_DECIDING: Final = 100
# What an event says of a gate that was decided.
GATE_EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {"pass": "gate.passed", "fail": "gate.failed", "inconclusive": "gate.inconclusive"}
)


def decide(rule: PolicyRule, observed: Observation) -> Decision:
    """What an observation decides of a rule."""
    return rule.decide(observed)


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """`fail` if a rule fails, else `inconclusive` if one is, else `pass`."""
    found = set(outcomes)
    if "fail" in found:
        return "fail"
    return "inconclusive" if "inconclusive" in found or not found else "pass"


class RuleOutcome(Described):
    """A rule of the policy, and what became of it."""

    rule: Rule
    """As the policy has it."""
    outcome: Outcome
    """`pass` only if what was observed keeps the limit, `fail` only if it breaks it, else `inconclusive`."""
    observed: Observation
    """What was observed."""
    limit: float
    """What `observed.value` is compared with."""
    reason: Reason | None
    """Why it is `inconclusive`; null otherwise."""
    deciding_texts: Annotated[list[str], Field(max_length=MOST_DECIDING)]
    """The ids of the texts that count against the limit, the clearest first; of an `inconclusive` rule those
    that keep it from passing, if single texts do. The first hundred."""
    deciding_count: int
    """How many there are."""
    statement: str
    """What was observed, in one sentence."""

    @classmethod
    def of(
        cls,
        rule: PolicyRule,
        observed: Observation,
        deciding_texts: Sequence[str] = (),
        deciding_count: int | None = None,
    ) -> Self:
        """The outcome of a rule by what was observed."""
        decision = decide(rule, observed)
        return cls(
            rule=rule,
            outcome=decision.outcome,
            observed=observed,
            limit=rule.limit,
            reason=decision.reason,
            deciding_texts=list(deciding_texts)[:MOST_DECIDING],
            deciding_count=len(deciding_texts) if deciding_count is None else deciding_count,
            statement=rule.state(observed),
        )
