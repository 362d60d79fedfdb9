"""The rules that finished work was judged by, for documents that have an entry for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.contracts.results.gates import RuleOutcome
from app.evidence.record import EvidenceRecord
from app.gates.schemas import GateOut


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRule:
    """A rule of a gate's policy with its outcome.

    Attributes:
        gate: which one; it has succeeded.
        number: of the rule in the policy, from 1.
        outcome: what became of it.
    """

    gate: GateOut
    number: int
    outcome: RuleOutcome

    def facts(self) -> dict[str, Any]:
        """What the outcome rests on, by name; None for what there is not."""
        observed = self.outcome.observed
        return {
            "outcome": self.outcome.outcome,
            "reason": self.outcome.reason,
            "value": observed.value,
            "limit": self.outcome.limit,
            "low": observed.low,
            "high": observed.high,
            "confidence": observed.confidence,
            "texts": observed.n,
            "texts-counted": observed.count,
            "texts-unmeasured": observed.unmeasured,
            "gate": self.gate.id,
            "policy": self.gate.policy,
            "policy-version": self.gate.policy_version,
            "policy-sha256": self.gate.policy_sha256,
            "preregistered": str(self.gate.preregistered).lower(),
        }


def judged_rules(record: EvidenceRecord) -> Iterator[JudgedRule]:
    """The rules of all gates in their order."""
    for recorded in record.gates:
        for number, outcome in enumerate(recorded.gate.rules, start=1):
            yield JudgedRule(gate=recorded.gate, number=number, outcome=outcome)
