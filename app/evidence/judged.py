"""The rules that finished work was judged by, for documents that have an entry for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from app.contracts.results.evaluations import Check, Outcome
from app.contracts.results.gates import RuleOutcome
from app.edits.schemas import EditOut
from app.evidence.measurements import CONFIDENCE
from app.evidence.record import EvidenceRecord, RecordedGate


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One rule and what was found.

    Attributes:
        identifier: of the rule within its standard.
        kind: of the rule, as policies name it; of a limit of an edit its name.
        rule: what it asks for.
        outcome: pass, fail or inconclusive.
        reason: why it is inconclusive, as a code; None if it is not, or is not told.
        statement: what was found, in a sentence.
        observed: the numbers behind it, by name.
        deciding_texts: the ids of the texts that decided it, the first hundred.
        confidence: what their interval holds at; None without one.
    """

    identifier: str
    kind: str
    rule: str
    outcome: Outcome
    reason: str | None
    statement: str
    observed: dict[str, Any]
    deciding_texts: tuple[str, ...]
    confidence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """The rules that one client made, and what was found of each.

    Attributes:
        ref: by which the document points to it.
        name: as the client calls it.
        version: as text; None if it has none.
        description: what it is for.
        summary: what came of it, in a sentence.
        facts: which gate and which policy, and what became of it, by name.
        judged: its rules in their order.
    """

    ref: str
    name: str
    version: str | None
    description: str
    summary: str
    facts: dict[str, str]
    judged: tuple[Judged, ...]


def standards(record: EvidenceRecord) -> Iterator[Standard]:
    """The policies that gates asked, and the limits of an edit."""
    yield from (_policy(each) for each in record.gates)
    if isinstance(record.work, EditOut):
        limits = _limits(record.work)
        if limits.judged:
            yield limits


def _limits(edit: EditOut) -> Standard:
    checks = edit.evaluation.verdict.checks if edit.evaluation else []
    return Standard(
        ref=f"{edit.id}/limits",
        name=f"Limits of {edit.id}",
        version=None,
        description="What the client asked of the edited model.",
        summary="The limits of the edit against 95 % intervals.",
        facts={"edit": edit.id},
        judged=tuple(_of_check(check) for check in checks if check.outcome is not None),
    )


def _policy(recorded: RecordedGate) -> Standard:
    gate, policy = recorded.gate, recorded.policy
    return Standard(
        ref=gate.id,
        name=policy.name,
        version=str(policy.version),
        description=policy.description or f"Policy {policy.id}, SHA-256 {policy.sha256}.",
        summary=f"{gate.outcome} of the policy with SHA-256 {policy.sha256}, {_registered(recorded)}.",
        facts={
            "gate": gate.id,
            "policy": policy.id,
            "policy-sha256": policy.sha256,
            "outcome": gate.outcome or "",
            "registered": _registered(recorded),
        },
        judged=tuple(_of_rule(place, each) for place, each in enumerate(gate.rules, 1)),
    )


def _registered(recorded: RecordedGate) -> str:
    registration = recorded.preregistration
    if registration is None:
        return "named after the work was asked for"
    when = f"written down before the first score, at {registration.registered_at.isoformat()}"
    if registration.text_set_hmac_sha256 is None:
        return when
    return f"{when}, for the texts with HMAC-SHA-256 {registration.text_set_hmac_sha256}"


def _of_rule(place: int, found: RuleOutcome) -> Judged:
    rule = found.rule.model_dump(mode="json", exclude_none=True)
    reason = f" Undecided: {found.reason}." if found.reason else ""
    return Judged(
        identifier=f"rule {place}: {found.rule.kind}",
        kind=found.rule.kind,
        rule=orjson.dumps(rule).decode(),
        outcome=found.outcome,
        reason=found.reason,
        statement=found.statement + reason,
        observed={
            "limit": found.limit,
            **found.observed.model_dump(mode="json", exclude_none=True),
            "deciding_count": found.deciding_count,
        },
        deciding_texts=tuple(found.deciding_texts),
        confidence=found.observed.confidence,
    )


def _of_check(check: Check) -> Judged:
    assert check.outcome is not None
    measured = "nothing was measured" if check.value is None else f"{check.value:g} was measured"
    return Judged(
        identifier=check.name,
        kind=check.name.partition(":")[0],
        rule=f"{check.name} {check.limit:g}",
        outcome=check.outcome,
        reason=None,
        statement=f"The limit is {check.limit:g}; {measured}.",
        observed=check.model_dump(include={"n", "value", "low", "high", "limit"}, exclude_none=True),
        deciding_texts=(),
        confidence=None if check.low is None else CONFIDENCE,
    )
