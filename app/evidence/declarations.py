"""What was judged, in CycloneDX's words: requirements of a standard, claims about them, and what backs these.

The client's rules are the standard. A rule that is kept is a claim with evidence, one that is broken a claim
with counter-evidence, and one that could not be decided a claim without a score of conformance.
"""

from typing import Any, TypeAlias

import orjson

from app.evidence.judged import Judged, Standard

_Json: TypeAlias = dict[str, Any]
_CONFORMANCE: dict[str, float] = {"pass": 1.0, "fail": 0.0}
_ASSESSOR = "assessor"


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
    found = judged.observed | {"deciding_texts": judged.deciding_texts}
    content = orjson.dumps(found).decode()
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
