"""What an in-toto statement says of finished work: its subjects and its result follow from the numbers in it.

The numbers are plain JSON, so that whoever verifies a statement computes the same from the same.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import orjson

from app.contracts.policies.policy import canonical_policy
from app.contracts.results.gates import Outcome, overall
from app.evidence.record import EvidenceRecord, ModelRole, RecordedAudit, SubjectKind, to_plain
from app.signing.in_toto import STATEMENT_TYPE

JSONObject = dict[str, Any]

PREDICATE_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"
# An extension field of the predicate: all that the result rests on.
MEASUREMENT: Final = "https://memaudit.dev/attestation/measurement/v0.1"

_RESULTS: Final = {"pass": "PASSED", "inconclusive": "WARNED", "fail": "FAILED"}
# The language model whose files are named by their paths alone; of others the label stands before them.
_MAIN_MODELS: Final = (ModelRole.AUDITED, ModelRole.EDITED)


def measure(record: EvidenceRecord) -> JSONObject:
    """The numbers of a record as JSON: what was measured of what, with which settings and digests."""
    measurement = {
        "kind": record.kind,
        "id": record.id,
        "software": f"memaudit {record.software}",
        "finished_at": record.finished_at,
        "work": record.work.model_dump(mode="json"),
        "models": record.models,
        "text_sets": record.text_sets,
        "artifact": record.artifact,
        "gates": record.gates,
        "audits": [_audit(audit) for audit in record.audits if audit.resource.id != record.work.id],
    }
    plain: JSONObject = orjson.loads(orjson.dumps(measurement, default=to_plain))
    return plain


def _audit(audit: RecordedAudit) -> JSONObject:
    known = {"id", "model", "text_set", "digests", "summary"}
    return {
        "role": audit.role,
        "label": audit.label,
        **audit.resource.model_dump(mode="json", include=known),
    }


def state(measurement: JSONObject) -> JSONObject:
    """The statement of a measurement."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": list(subjects_of(measurement)),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            **conclude(measurement),
            "configuration": list(_configuration(measurement)),
            MEASUREMENT: measurement,
        },
    }


def subjects_of(measurement: JSONObject) -> Iterator[JSONObject]:
    """What a statement is about, each with its digest: files of models, text sets, an artifact.

    That of texts is under a key of their owner. In a measurement of an older release it was under none.
    """
    for model in measurement["models"]:
        if model["role"] == ModelRole.REFERENCE:
            continue
        before = "" if model["role"] in _MAIN_MODELS else f"{model['label']}/"
        for file in model["files"]:
            yield _resource(before + file["path"], file["sha256"], model["id"])
    for text_set in measurement["text_sets"]:
        keyed = "hmac_sha256" if "hmac_sha256" in text_set else "sha256"
        yield _resource(f"text-set/{text_set['role']}", text_set[keyed], text_set["id"], keyed)
    if (artifact := measurement["artifact"]) is not None:
        yield _resource(f"artifact/{artifact['name']}", artifact["manifest_sha256"], artifact["id"])


def _resource(name: str, digest: str, of: str, algorithm: str = "sha256") -> JSONObject:
    return {"name": name, "digest": {algorithm: digest}, "annotations": {"of": of}}


def _configuration(measurement: JSONObject) -> Iterator[JSONObject]:
    """The settings of the work, in full and with their digest."""
    work = measurement["work"]
    if work["object"] == SubjectKind.EDIT:
        settings = {"method": work["method"], **work["spec"]}
    else:
        settings = {"metrics": work["metrics"], "options": work["options"]}
    yield _document("settings", orjson.dumps(settings, option=orjson.OPT_SORT_KEYS))
    for each in measurement["gates"]:
        gate = each["gate"]
        rules = [outcome["rule"] for outcome in gate["rules"]]
        content = canonical_policy(gate["policy_name"], gate["policy_version"], rules)
        yield _document(_policy_name(gate), content)


def _policy_name(gate: JSONObject) -> str:
    return f"policy {gate['policy_name']} {gate['policy_version']}"


def _document(name: str, content: bytes) -> JSONObject:
    return {
        "name": name,
        "mediaType": "application/json",
        "digest": {"sha256": hashlib.sha256(content).hexdigest()},
        "content": base64.b64encode(content).decode(),
    }


def conclude(measurement: JSONObject) -> JSONObject:
    """The result of a measurement as the predicate has it, and the names of its tests.

    Each rule of a gate is a test, and so is each limit of an edit: it fails, passes, or is warned of if it is
    inconclusive. Without any nothing but the measurement itself is claimed: that a metric was measured is a
    test that passed.
    """
    by_outcome: dict[str, list[str]] = {"pass": [], "inconclusive": [], "fail": []}
    for name, outcome in _tests(measurement):
        by_outcome[outcome].append(name)
    found: list[Outcome] = [outcome for outcome in get_args(Outcome) if by_outcome[outcome]]
    return {
        "result": _RESULTS[overall(found)],
        "passedTests": by_outcome["pass"],
        "warnedTests": by_outcome["inconclusive"],
        "failedTests": by_outcome["fail"],
    }


def _tests(measurement: JSONObject) -> Iterator[tuple[str, str]]:
    """The tests of a measurement, each with its outcome. Those of a gate are its rules alone."""
    work = measurement["work"]
    if measurement["kind"] == SubjectKind.EDIT:
        yield f"{work['method']} edit made and evaluated", "pass"
        for check in work["evaluation"]["verdict"]["checks"]:
            yield f"limit {check['name']}", _outcome_of(check)
    elif measurement["kind"] != SubjectKind.GATE:
        yield from ((f"{metric} measured", "pass") for metric in work["metrics"])
    for each in measurement["gates"]:
        for place, rule in enumerate(each["gate"]["rules"], 1):
            yield f"{_policy_name(each['gate'])}, rule {place}: {rule['rule']['kind']}", rule["outcome"]


def _outcome_of(check: Mapping[str, Any]) -> str:
    """What a limit came to; an older release compared the value alone and said only whether it was kept."""
    if check["outcome"] is not None:
        return str(check["outcome"])
    return {True: "pass", False: "fail", None: "inconclusive"}[check["passed"]]
