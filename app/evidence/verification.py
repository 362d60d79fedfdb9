"""Checking a signed statement without the service that made it.

Everything is computed again from the numbers inside: digests, subjects, result. Only the keys are trusted.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import orjson
from pydantic import ValidationError

from app.contracts.policies.policy import RULE_LIST, policy_digest
from app.contracts.results.evaluations import PASSED
from app.contracts.results.evaluations import Check as Limit
from app.contracts.results.gates import Observation, RuleOutcome, overall
from app.evidence.record import AuditRole, ModelRole, SubjectKind
from app.evidence.statement import (
    MEASUREMENT,
    PREDICATE_TYPE,
    JSONObject,
    state,
)
from app.signing import erasure
from app.signing.dsse import EnvelopeInvalid, open_envelope
from app.signing.in_toto import PAYLOAD_TYPE, STATEMENT_TYPE
from app.signing.keys import PublicKey
from app.store.artifacts import StoredFile, digest_manifest


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was checked: what, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a document: it is verified if every check passed.

    Attributes:
        checks: in the order in which they were made; the first that fails may be the last.
        statement: what is said, once its signature was checked; empty before.
    """

    checks: tuple[Check, ...]
    statement: JSONObject = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(document: bytes, trusted: Mapping[str, PublicKey], model: Path | None = None) -> Verification:
    """Check a document of the format `in-toto`.

    Args:
        document: its bytes.
        trusted: the keys that may have signed it, by their ids.
        model: a directory that must hold the files of a language model that the document is about.
    """
    try:
        opened = open_envelope(document, trusted)
    except EnvelopeInvalid as error:
        return Verification((Check("signature", passed=False, found=f"{error}"),))
    until = "" if opened.key.valid_until is None else f", retired {opened.key.valid_until:%Y-%m-%d}"
    signed = Check("signature", passed=True, found=f"Ed25519, key {opened.key.key_id[:16]}…{until}")
    statement = _read_statement(opened.payload_type, opened.payload)
    if statement is None:
        return Verification((signed, Check("statement", passed=False, found="not one of memaudit's")))
    checks = [signed]
    try:
        checks += _checks(statement)
        if model is not None:
            checks.append(_check_directory(statement["predicate"][MEASUREMENT], model))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError):
        # It is signed, so that the release which wrote it knew other fields.
        checks.append(Check("statement", passed=False, found="not of a form that this release reads"))
    return Verification(tuple(checks), statement)


def _read_statement(payload_type: str, payload: bytes) -> JSONObject | None:
    if payload_type != PAYLOAD_TYPE:
        return None
    try:
        statement = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    match statement:
        case {"_type": str(type_), "predicateType": str(kind), "predicate": {**predicate}} if (
            type_ == STATEMENT_TYPE
        ):
            known = kind == erasure.PREDICATE_TYPE or (kind == PREDICATE_TYPE and MEASUREMENT in predicate)
            return dict(statement) if known else None
    return None


def is_receipt(statement: JSONObject) -> bool:
    """Whether a statement says that texts were erased, and not what was measured."""
    return bool(statement.get("predicateType") == erasure.PREDICATE_TYPE)


def _checks(statement: JSONObject) -> Iterator[Check]:
    predicate = statement["predicate"]
    if is_receipt(statement):
        subject = erasure.subject_of(predicate["text_set"], predicate["hmac_sha256"])
        yield Check("subjects", statement["subject"] == [subject], "the text set that was erased")
        return
    measurement = predicate[MEASUREMENT]
    yield from _check_models(measurement)
    yield from _check_recorded(measurement)
    if (artifact := measurement["artifact"]) is not None and artifact["files"]:
        found = _digest(artifact["files"])
        yield Check("artifact", found == artifact["manifest_sha256"], f"manifest {found[:16]}…")
    if measurement["work"]["object"] == SubjectKind.EDIT:
        yield from _check_limits(measurement["work"]["evaluation"]["verdict"])
    for each in measurement["gates"]:
        yield from _check_gate(each, measurement)
    again = state(measurement)
    subjects = statement["subject"]
    yield Check("subjects", subjects == again["subject"], f"{len(subjects)} with their digests")
    same = {name: predicate[name] for name in again["predicate"]} == again["predicate"]
    yield Check("result", same, f"{predicate['result']}, computed again from the numbers")


def _check_models(measurement: JSONObject) -> Iterator[Check]:
    """The digest of each model is that of its files."""
    for model in measurement["models"]:
        if model["files"]:
            found = _digest(model["files"])
            yield Check(f"model {model['label']}", found == model["digest"], f"{found[:16]}… of its files")


def _check_recorded(measurement: JSONObject) -> Iterator[Check]:
    """The model and the texts are those that the work recorded the digests of while it ran."""
    work = measurement["work"]
    models = {each["role"]: each["digest"] for each in measurement["models"]}
    texts = _digests_of_texts(measurement)
    if work["object"] == SubjectKind.EDIT:
        receipt = work["receipt"]
        pairs = [("base", receipt["base"]["digest"], models.get(ModelRole.BASE))]
        if (reference := (work["evaluation"] or {}).get("reference")) is not None:
            pairs.append(("reference", reference["digest"], models.get(ModelRole.REFERENCE)))
        pairs += [
            (f"{role} texts", _digest_of_texts(used), texts.get(role))
            for role, used in receipt["text_sets"].items()
        ]
    elif work["object"] == SubjectKind.STUDY:
        studied = {each["label"]: each["digest"] for each in measurement["models"]}
        pairs = [("texts", _digest_of_texts(work, "text_set_"), texts.get("audited"))]
        pairs += [
            (f"model {each['label']}", each["digests"]["model"], studied.get(each["label"]))
            for each in measurement["audits"]
            if each["role"] == AuditRole.STUDIED
        ]
    else:
        pairs = [
            ("model", work["digests"]["model"], models.get(ModelRole.AUDITED)),
            ("texts", work["digests"]["text_set"], texts.get("audited")),
        ]
    for name, recorded, named in pairs:
        if recorded is None:
            yield Check(f"recorded {name}", passed=False, found="no digest was recorded")
        else:
            yield Check(f"recorded {name}", recorded == named, f"{recorded[:16]}…")


def _digests_of_texts(measurement: JSONObject) -> dict[str, str | None]:
    """By role."""
    return {each["role"]: _digest_of_texts(each) for each in measurement["text_sets"]}


def _digest_of_texts(facts: JSONObject, whose: str = "") -> str | None:
    """The digest of a text set. Releases before it was keyed called it by another name."""
    digest: str | None = facts.get(f"{whose}hmac_sha256", facts.get(f"{whose}sha256"))
    return digest


def _check_limits(verdict: JSONObject) -> Iterator[Check]:
    """What each limit of an edit came to follows from its interval, and the verdict from them all."""
    outcomes = []
    for each in verdict["checks"]:
        limit = Limit.model_validate(each)
        decided = limit.decide()
        outcomes.append(decided)
        same = limit.outcome in {decided, None} and limit.passed == PASSED.get(decided)
        yield Check(f"limit {limit.name}", same, decided)
    if outcomes:
        found = overall(outcomes)
        same = verdict["outcome"] in {found, None} and verdict["passed"] == PASSED.get(found)
        yield Check("limits", same, found)


def _check_gate(recorded: JSONObject, measurement: JSONObject) -> Iterator[Check]:
    """A gate's policy is the one that its digest names, and its outcome follows from what was observed."""
    gate, policy = recorded["gate"], recorded["policy"]
    name = f"policy {gate['policy_name']} {gate['policy_version']}"
    rules = [rule["rule"] for rule in gate["rules"]]
    digest = policy_digest(gate["policy_name"], gate["policy_version"], rules)
    found = f"{digest[:16]}… of its canonical JSON"
    yield Check(name, digest == gate["policy_sha256"] == policy["sha256"], found)
    if recorded["preregistration"] is not None:
        passed = _was_registered_before(recorded["preregistration"], gate, measurement)
        yield Check(f"{name} pre-registered", passed, "with the texts' digest, before the first score")
    outcomes = [_decide_again(rule) for rule in gate["rules"]]
    for place, (rule, decided) in enumerate(zip(gate["rules"], outcomes, strict=True), 1):
        found = "not known" if decided is None else f"{decided.outcome}; {decided.statement}"
        yield Check(f"{name}, rule {place}", decided is not None and _says(rule, decided), found)
    verdict = overall([decided.outcome for decided in outcomes if decided is not None])
    same = verdict == gate["outcome"] and gate["subject"]["id"] == measurement["work"]["id"]
    yield Check(f"{name} outcome", same and None not in outcomes, gate["outcome"])


def _was_registered_before(registered: JSONObject, gate: JSONObject, measurement: JSONObject) -> bool:
    """Whether the policy and the texts that were written down are these, and before the work began."""
    texts = _digests_of_texts(measurement)
    # Null while the texts were being imported, and of an edit.
    same_texts = _digest_of_texts(registered, "text_set_") in {None, texts.get("audited")}
    same_policy = registered["policy_sha256"] == gate["policy_sha256"]
    began = datetime.fromisoformat(measurement["work"]["started_at"])
    return same_texts and same_policy and datetime.fromisoformat(registered["registered_at"]) <= began


def _decide_again(rule: JSONObject) -> RuleOutcome | None:
    """What was observed for a rule, decided again; None for a rule that this release does not know."""
    try:
        (asked,) = RULE_LIST.validate_python([rule["rule"]])
        observed = Observation.model_validate(rule["observed"])
    except ValidationError:
        return None
    return RuleOutcome.of(asked, observed)


def _says(rule: JSONObject, decided: RuleOutcome) -> bool:
    """Whether a rule says what was decided again."""
    again = decided.model_dump(mode="json", include={"outcome", "limit", "reason"})
    return all(rule[name] == value for name, value in again.items())


def _digest(files: list[JSONObject]) -> str:
    return digest_manifest([StoredFile(file["path"], file["sha256"], 0) for file in files])


def _check_directory(measurement: JSONObject, directory: Path) -> Check:
    """Whether a directory holds the files of one of the models."""
    wrong = {}
    for model in measurement["models"]:
        wrong[model["label"]] = [file["path"] for file in model["files"] if not _holds(directory, file)]
        if model["files"] and not wrong[model["label"]]:
            found = f"holds the {len(model['files'])} files of {model['label']}; others were not looked at"
            return Check("directory", passed=True, found=found)
    found = "; ".join(f"not {label}: {', '.join(paths)}" for label, paths in wrong.items())
    return Check("directory", passed=False, found=found)


def _holds(directory: Path, file: JSONObject) -> bool:
    try:
        with (directory / file["path"]).open("rb") as stream:
            return bool(hashlib.file_digest(stream, "sha256").hexdigest() == file["sha256"])
    except OSError:
        return False
