"""What was judged, in CycloneDX's words: requirements of a standard, claims about them, and what backs these.

The client's rules are the standard. A rule that is kept is a claim with evidence, one that is broken a claim
with counter-evidence, and one that could not be decided a claim without a score of conformance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from app.contracts.results.evaluations import Check, Outcome
from app.contracts.results.gates import RuleOutcome
from app.edits.schemas import EditOut
from app.evidence.measurements import CONFIDENCE
from app.evidence.record import EvidenceRecord, RecordedGate

_Json: TypeAlias = dict[str, Any]
_CONFORMANCE: dict[str, float] = {"pass": 1.0, "fail": 0.0}
_ASSESSOR = "assessor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One rule and what was found.

    Attributes:
        identifier: of the rule within its standard.
        rule: what it asks for.
        outcome: pass, fail or inconclusive.
        statement: what was found, in a sentence.
        observed: the numbers behind it.
        confidence: what their interval holds at; None without one.
    """

    identifier: str
    rule: str
    outcome: Outcome
    statement: str
    observed: _Json
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
        judged: its rules in their order.
    """

    ref: str
    name: str
    version: str | None
    description: str
    summary: str
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
        judged=tuple(_of_rule(place, each) for place, each in enumerate(gate.rules, 1)),
    )


def _registered(recorded: RecordedGate) -> str:
    registration = recorded.preregistration
    if registration is None:
        return "named after the work was asked for"
    when = f"written down before the first score, at {registration.registered_at.isoformat()}"
    if registration.text_set_sha256 is None:
        return when
    return f"{when}, for the texts with SHA-256 {registration.text_set_sha256}"


def _of_rule(place: int, found: RuleOutcome) -> Judged:
    rule = found.rule.model_dump(mode="json", exclude_none=True)
    reason = f" Undecided: {found.reason}." if found.reason else ""
    return Judged(
        identifier=f"rule {place}: {found.rule.kind}",
        rule=orjson.dumps(rule).decode(),
        outcome=found.outcome,
        statement=found.statement + reason,
        observed={
            "limit": found.limit,
            **found.observed.model_dump(mode="json", exclude_none=True),
            "deciding_count": found.deciding_count,
            "deciding_texts": found.deciding_texts,
        },
        confidence=found.observed.confidence,
    )


def _of_check(check: Check) -> Judged:
    assert check.outcome is not None
    measured = "nothing was measured" if check.value is None else f"{check.value:g} was measured"
    return Judged(
        identifier=check.name,
        rule=f"{check.name} {check.limit:g}",
        outcome=check.outcome,
        statement=f"The limit is {check.limit:g}; {measured}.",
        observed=check.model_dump(include={"n", "value", "low", "high", "limit"}),
        confidence=None if check.low is None else CONFIDENCE,
    )


def definitions(found: list[Standard]) -> _Json:
    """The rules as standards."""
    return {"standards": [_definition(each) for each in found]}


def _definition(standard: Standard) -> _Json:
    return {
        "bom-ref": standard.ref,
        "name": standard.name,
        **({"version": standard.version} if standard.version else {}),
        "description": standard.description,
        "requirements": [
            {
                "bom-ref": f"{standard.ref}/{place}",
                "identifier": judged.identifier,
                "text": judged.rule,
            }
            for place, judged in enumerate(standard.judged)
        ],
    }


def declarations(found: list[Standard], target: str) -> _Json:
    """The claims about a component, what backs them, and one attestation a standard."""
    return {
        "assessors": [{"bom-ref": _ASSESSOR, "thirdParty": False, "organization": {"name": "memaudit"}}],
        "attestations": [_attestation(each) for each in found],
        "claims": [
            _claim(f"{each.ref}/{place}", judged, target)
            for each in found
            for place, judged in enumerate(each.judged)
        ],
        "evidence": [
            _evidence(f"{each.ref}/{place}", judged)
            for each in found
            for place, judged in enumerate(each.judged)
        ],
    }


def _attestation(standard: Standard) -> _Json:
    return {
        "summary": standard.summary,
        "assessor": _ASSESSOR,
        "map": [_mapped(f"{standard.ref}/{place}", judged) for place, judged in enumerate(standard.judged)],
    }


def _mapped(ref: str, judged: Judged) -> _Json:
    conformance: _Json = {"rationale": f"{judged.outcome}: {judged.statement}"}
    if judged.outcome in _CONFORMANCE:
        conformance["score"] = _CONFORMANCE[judged.outcome]
    mapped: _Json = {
        "requirement": ref,
        "counterClaims" if judged.outcome == "fail" else "claims": [f"{ref}/claim"],
        "conformance": conformance,
    }
    if judged.confidence is not None:
        mapped["confidence"] = {
            "score": judged.confidence,
            "rationale": "The whole interval was compared with the limit.",
        }
    return mapped


def _claim(ref: str, judged: Judged, target: str) -> _Json:
    return {
        "bom-ref": f"{ref}/claim",
        "target": target,
        "predicate": judged.rule,
        "reasoning": judged.statement,
        "counterEvidence" if judged.outcome == "fail" else "evidence": [f"{ref}/evidence"],
    }


def _evidence(ref: str, judged: Judged) -> _Json:
    content = orjson.dumps(judged.observed).decode()
    return {
        "bom-ref": f"{ref}/evidence",
        "propertyName": judged.identifier,
        "description": judged.statement,
        "data": [
            {
                "name": "observed",
                "contents": {"attachment": {"contentType": "application/json", "content": content}},
            }
        ],
    }
