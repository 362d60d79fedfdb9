"""Signed evidence: what is signed, by which key, and what of it a reader computes again."""

import base64
import hashlib
import json
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.contracts.policies.policy import RULE_LIST, policy_digest
from app.contracts.results.gates import Observation, RuleOutcome, overall
from app.errors import SigningUnavailable
from app.evidence.statement import MEASUREMENT, state
from app.evidence.verification import verify
from app.signing.dsse import authenticated, seal
from app.signing.in_toto import PAYLOAD_TYPE
from app.signing.keys import (
    SigningKeys,
    from_json_web_key,
    read_signing_keys,
    rotate_signing_key,
    to_json_web_key,
)
from tests.command_line import invoke

RULES = [
    {"kind": "rate", "metric": "strict", "at_most": 0.1},
    {"kind": "rate", "metric": "strict", "at_most": 0.001},
]
OBSERVED = {"value": 0.0, "n": 50, "count": 0, "low": 0.0, "high": 0.0582, "confidence": 0.95}
WEIGHTS = b"not really weights"
TEXTS = "a" * 64

Change = Callable[[dict[str, Any]], None]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def gate() -> dict[str, Any]:
    """A gate of two rules: one passes, and of the other too few texts tell."""
    rules = RULE_LIST.validate_python(RULES)
    outcomes = [RuleOutcome.of(rule, Observation(**OBSERVED)) for rule in rules]
    sha256 = policy_digest("strict", 1, [rule.model_dump() for rule in rules])
    return {
        "gate": {
            "id": "gat_1",
            "subject": {"kind": "audit", "id": "aud_1"},
            "policy_name": "strict",
            "policy_version": 1,
            "policy_sha256": sha256,
            "outcome": overall(outcome.outcome for outcome in outcomes),
            "rules": [outcome.model_dump(mode="json") for outcome in outcomes],
        },
        "policy": {"sha256": sha256},
        "preregistration": {
            "policy_sha256": sha256,
            "text_set_hmac_sha256": TEXTS,
            "registered_at": "2026-01-01T00:00:00Z",
        },
    }


def measurement() -> dict[str, Any]:
    """What is measured of a model of two files, with all that a statement is made from."""
    files = [{"path": "config.json", "sha256": digest(b"{}"), "size": None}]
    files.append({"path": "model.safetensors", "sha256": digest(WEIGHTS), "size": None})
    model_digest = digest("".join(f"{each['sha256']}  {each['path']}\n" for each in files).encode())
    made: dict[str, Any] = {
        "kind": "audit",
        "id": "aud_1",
        "work": {
            "object": "audit",
            "id": "aud_1",
            "metrics": ["nl", "extraction"],
            "options": {"prefix_tokens": 64},
            "digests": {"model": model_digest, "text_set": TEXTS},
            "summary": {"nl": {"mean": -2.5}},
            "started_at": "2026-01-01T00:00:01Z",
        },
        "models": [
            {"role": "audited", "label": "audited", "id": "mdl_1", "digest": model_digest, "files": files}
        ],
        "text_sets": [{"role": "audited", "id": "txs_1", "hmac_sha256": TEXTS}],
        "artifact": None,
        "audits": [],
        "gates": [gate()],
    }
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    rotate_signing_key(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def keys(directory: Path) -> SigningKeys:
    return read_signing_keys(directory)


@pytest.fixture
def document(keys: SigningKeys) -> bytes:
    return seal(PAYLOAD_TYPE, orjson.dumps(state(measurement())), keys)


def test_what_is_signed_is_encoded_as_the_specification_says() -> None:
    """The example of DSSE's protocol."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert authenticated("http://example.com/HelloWorld", b"hello world") == expected
    assert authenticated("ä", b"") == "DSSEv1 2 ä 0 ".encode()


def test_an_envelope_verifies_by_the_published_key_alone(document: bytes, keys: SigningKeys) -> None:
    """With nothing of ours: the envelope and the key set are read as their specifications have them."""
    envelope = json.loads(document)
    published = json.loads(json.dumps({"keys": [to_json_web_key(key) for key in keys.public]}))
    (signature,) = envelope["signatures"]
    (key,) = [each for each in published["keys"] if each["kid"] == signature["keyid"]]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    public.verify(base64.b64decode(signature["sig"]), signed)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature["sig"]), signed.replace(b"PASSED", b"FAILED") + b" ")


def test_all_is_checked_and_said(document: bytes, keys: SigningKeys) -> None:
    verification = verify(document, keys.by_id())
    assert verification.passed
    assert [check.name for check in verification.checks] == [
        "signature",
        "model audited",
        "recorded model",
        "recorded texts",
        "policy strict 1",
        "policy strict 1 pre-registered",
        "policy strict 1, rule 1",
        "policy strict 1, rule 2",
        "policy strict 1 outcome",
        "subjects",
        "result",
    ]
    predicate = verification.statement["predicate"]
    assert predicate["result"] == "WARNED"
    assert predicate["passedTests"] == [
        "nl measured",
        "extraction measured",
        "policy strict 1, rule 1: rate",
    ]
    assert predicate["warnedTests"] == ["policy strict 1, rule 2: rate"]
    policy = next(each for each in predicate["configuration"] if each["name"] == "policy strict 1")
    assert digest(base64.b64decode(policy["content"])) == policy["digest"]["sha256"]


@pytest.mark.parametrize("mask", [0x01, 0x04, 0x20, 0x80])
def test_one_flipped_byte_fails(document: bytes, keys: SigningKeys, mask: int) -> None:
    """Wherever it is: every seventh byte, and all of what stands around the payload."""
    start, around = document.index(b'","payloadType"'), range(20)
    for place in {*range(0, len(document), 7), *around, *range(start - 20, len(document))}:
        flipped = bytearray(document)
        flipped[place] ^= mask
        assert not verify(bytes(flipped), keys.by_id()).passed, (place, chr(document[place]))


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"null", b'{"payload": 1}', b"\xff", b" "])
def test_what_is_no_envelope_fails(keys: SigningKeys, damage: bytes) -> None:
    verification = verify(damage, keys.by_id())
    assert [check.passed for check in verification.checks] == [False]
    assert verification.statement == {}


def rule_of(statement: dict[str, Any], place: int = 0) -> dict[str, Any]:
    rule: dict[str, Any] = statement["predicate"][MEASUREMENT]["gates"][0]["gate"]["rules"][place]
    return rule


def measured(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["predicate"][MEASUREMENT]
    return found


CHANGES: dict[str, tuple[Change, str]] = {
    "outcome of a rule": (
        lambda s: rule_of(s, 1).update(outcome="pass", reason=None),
        "policy strict 1, rule 2",
    ),
    "observation": (lambda s: rule_of(s)["observed"].update(high=0.2), "policy strict 1, rule 1"),
    "limit": (lambda s: rule_of(s)["rule"].update(at_most=0.9), "policy strict 1"),
    "verdict": (lambda s: measured(s)["gates"][0]["gate"].update(outcome="pass"), "policy strict 1 outcome"),
    "gate on something else": (
        lambda s: measured(s)["gates"][0]["gate"]["subject"].update(id="aud_2"),
        "policy strict 1 outcome",
    ),
    "unknown rule": (lambda s: rule_of(s)["rule"].update(kind="later"), "policy strict 1, rule 1"),
    "texts of the registration": (
        lambda s: measured(s)["gates"][0]["preregistration"].update(text_set_hmac_sha256="b" * 64),
        "policy strict 1 pre-registered",
    ),
    "time of the registration": (
        lambda s: measured(s)["gates"][0]["preregistration"].update(registered_at="2026-01-02T00:00:00Z"),
        "policy strict 1 pre-registered",
    ),
    "result": (lambda s: s["predicate"].update(result="PASSED"), "result"),
    "passed tests": (lambda s: s["predicate"]["passedTests"].append("all measured"), "result"),
    "subject": (lambda s: s["subject"][0]["digest"].update(sha256="b" * 64), "subjects"),
    "file of a model": (
        lambda s: measured(s)["models"][0]["files"][0].update(sha256="b" * 64),
        "model audited",
    ),
    "texts": (lambda s: measured(s)["text_sets"][0].update(hmac_sha256="b" * 64), "recorded texts"),
    "model": (lambda s: measured(s)["work"]["digests"].update(model="b" * 64), "recorded model"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_signed_must_agree_with_itself(keys: SigningKeys, change: str) -> None:
    """A statement that says something else than its numbers fails, even if the right key signed it."""
    alter, failing = CHANGES[change]
    statement = state(measurement())
    alter(statement)
    verification = verify(seal(PAYLOAD_TYPE, orjson.dumps(statement), keys), keys.by_id())
    assert failing in [check.name for check in verification.checks if not check.passed]


def test_an_envelope_is_taken_as_it_was_written(document: bytes, keys: SigningKeys) -> None:
    """Of a field that stands twice another reader may take the first: what was signed is the last alone."""
    false = base64.b64encode(orjson.dumps({"result": "PASSED"}))
    twice = b'{"payload":"' + false + b'",' + document[1:]
    more = (b'{"note":1,' + document[1:], json.dumps(json.loads(document)).encode(), document + b"\n")
    for changed in (twice, *more):
        assert json.loads(changed)["payload"] == json.loads(document)["payload"]
        verification = verify(changed, keys.by_id())
        assert [(check.name, check.passed) for check in verification.checks] == [("signature", False)]


WHAT_IS_SIGNED: dict[str, bytes] = {
    "no JSON": b"PASSED",
    "nothing": b"",
    "a list": b"[]",
    "deep": b"[" * 5000 + b"]" * 5000,
    "no measurement": orjson.dumps({**state(measurement()), "predicate": {}}),
    "an empty measurement": orjson.dumps({**state(measurement()), "predicate": {MEASUREMENT: {}}}),
    "another kind of measurement": orjson.dumps({**state(measurement()), "predicate": {MEASUREMENT: [1]}}),
    "huge numbers": orjson.dumps(state(measurement())).replace(b'"n":50', b'"n":1' + b"0" * 400),
    "no subject": orjson.dumps(
        {name: each for name, each in state(measurement()).items() if name != "subject"}
    ),
}


@pytest.mark.parametrize("signed", WHAT_IS_SIGNED)
def test_whatever_was_signed_is_answered_with_a_check_that_fails(keys: SigningKeys, signed: str) -> None:
    verification = verify(seal(PAYLOAD_TYPE, WHAT_IS_SIGNED[signed], keys), keys.by_id(), Path())
    assert not verification.passed


@pytest.mark.parametrize("recorded", ["", "b" * 64])
def test_the_models_of_a_study_are_those_that_its_audits_recorded(keys: SigningKeys, recorded: str) -> None:
    made = measurement() | {"kind": "study", "gates": []}
    model = made["models"][0] | {"role": "studied", "label": "v1"}
    digests = {"model": recorded or model["digest"], "text_set": TEXTS}
    made |= {"models": [model], "audits": [{"role": "studied", "label": "v1", "digests": digests}]}
    made["work"] |= {"object": "study", "text_set_hmac_sha256": TEXTS}
    found = verify(seal(PAYLOAD_TYPE, orjson.dumps(state(made)), keys), keys.by_id())
    assert [check.name for check in found.checks if not check.passed] == (
        ["recorded model v1"] if recorded else []
    )


def test_the_limits_of_an_edit_are_decided_again(keys: SigningKeys) -> None:
    kept = {"name": "max_strict:memorized", "limit": 0.1, "n": 90, "value": 0.01, "low": 0.0, "high": 0.06}
    kept |= {"outcome": "pass", "passed": True}
    low = {"name": "min_ndcg", "limit": 0.9, "n": 90, "value": 0.8, "low": 0.7, "high": 0.89}
    low |= {"outcome": "fail", "passed": False}
    older = {"name": "max_perplexity_increase", "limit": 0.1, "value": 0.2, "passed": False}

    def failing(*checks: dict[str, Any], outcome: str) -> list[str]:
        made = measurement() | {"kind": "edit", "gates": [], "text_sets": []}
        passed = {"pass": True, "fail": False, "inconclusive": None}[outcome]
        verdict = {"outcome": outcome, "passed": passed, "checks": list(checks)}
        base = made["models"][0] | {"role": "base", "label": "base"}
        receipt = {"base": {"digest": base["digest"]}, "text_sets": {}}
        made["work"] = {"object": "edit", "id": "edt_1", "method": "kfac", "spec": {}, "receipt": receipt}
        made["work"] |= {"evaluation": {"verdict": verdict}}
        statement = state(made | {"models": [base]})
        found = verify(seal(PAYLOAD_TYPE, orjson.dumps(statement), keys), keys.by_id())
        return [check.name for check in found.checks if not check.passed]

    older |= {"outcome": None}
    assert failing(kept, outcome="pass") == []
    assert failing(kept, low, outcome="fail") == []
    assert failing(kept, older, outcome="fail") == []
    assert failing(kept | {"high": 0.2}, outcome="pass") == ["limit max_strict:memorized", "limits"]
    assert failing(kept | {"limit": 0.01}, outcome="pass") == ["limit max_strict:memorized", "limits"]
    told = low | {"outcome": "pass", "passed": True}
    assert failing(told, outcome="pass") == ["limit min_ndcg", "limits"]
    assert failing(older | {"passed": True}, outcome="pass") == ["limit max_perplexity_increase", "limits"]
    assert failing(kept, outcome="inconclusive") == ["limits"]


@pytest.mark.parametrize("recorded", ["", "b" * 64])
def test_the_reference_of_an_edit_is_the_one_that_it_recorded(keys: SigningKeys, recorded: str) -> None:
    made = measurement() | {"kind": "edit", "gates": [], "text_sets": []}
    base, reference = (made["models"][0] | {"role": role, "label": role} for role in ("base", "reference"))
    receipt = {"base": {"digest": base["digest"]}, "text_sets": {}}
    compared = {"model": "mdl_2", "digest": recorded or reference["digest"]}
    verdict = {"outcome": None, "passed": None, "checks": []}
    made["work"] = {"object": "edit", "id": "edt_1", "method": "kfac", "spec": {}, "receipt": receipt}
    made["work"] |= {"evaluation": {"verdict": verdict, "reference": compared}}
    statement = state(made | {"models": [base, reference]})
    found = verify(seal(PAYLOAD_TYPE, orjson.dumps(statement), keys), keys.by_id())
    failing = [check.name for check in found.checks if not check.passed]
    assert failing == (["recorded reference"] if recorded else [])


def test_another_kind_of_statement_is_not_taken_for_one(keys: SigningKeys) -> None:
    other = {**state(measurement()), "predicateType": "https://slsa.dev/provenance/v1"}
    for kind, payload in ((PAYLOAD_TYPE, other), ("application/json", state(measurement()))):
        verification = verify(seal(kind, orjson.dumps(payload), keys), keys.by_id())
        assert [check.name for check in verification.checks if not check.passed] == ["statement"]


def test_a_limit_of_an_edit_is_a_test() -> None:
    made = measurement() | {"kind": "edit", "gates": []}
    checks = [
        {"name": f"max_strict:{outcome}", "outcome": outcome, "passed": passed}
        for outcome, passed in (("pass", True), ("fail", False), (None, None))
    ]
    made["work"] = {
        "object": "edit",
        "method": "kfac",
        "spec": {"keep_mass": 0.6},
        "evaluation": {"verdict": {"checks": checks}},
    }
    predicate = state(made)["predicate"]
    assert predicate["result"] == "FAILED"
    assert predicate["failedTests"] == ["limit max_strict:fail"]
    assert predicate["warnedTests"] == ["limit max_strict:None"]


def test_a_rotated_key_stays_valid_until_it_is_removed(directory: Path, document: bytes) -> None:
    old = read_signing_keys(directory).public[0]
    new = rotate_signing_key(directory, old.valid_from + timedelta(minutes=1))
    rotated = read_signing_keys(directory)
    assert [key.key_id for key in rotated.public] == [new.key_id, old.key_id]
    assert [key.valid_until for key in rotated.public] == [None, new.valid_from]
    verification = verify(document, rotated.by_id())
    assert verification.passed
    assert "retired" in verification.checks[0].found
    fresh = seal(PAYLOAD_TYPE, b"{}", rotated)
    assert json.loads(fresh)["signatures"][0]["keyid"] == new.key_id

    (retired,) = directory.glob("*.pub.pem")
    retired.unlink()
    assert not verify(document, read_signing_keys(directory).by_id()).passed


def test_a_retired_key_cannot_sign_and_no_other_can_read_a_key(directory: Path) -> None:
    rotate_signing_key(directory, read_signing_keys(directory).public[0].valid_from + timedelta(minutes=1))
    files = sorted(directory.iterdir())
    assert [b"PRIVATE" in file.read_bytes() for file in files] == [False, True]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_key_of_this_second_is_not_written_over(directory: Path, keys: SigningKeys) -> None:
    with pytest.raises(FileExistsError):
        rotate_signing_key(directory, keys.public[0].valid_from)
    assert read_signing_keys(directory).public[0].key_id == keys.public[0].key_id


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (None, b""),
        ("mine.pem", b""),
        ("20260101T000000Z.pem", b"no key"),
        ("20261301T000000Z.pem", b""),
        ("20260101T000000Z.20260102T000000Z.pub.pem", b""),
    ],
)
def test_a_directory_without_a_usable_key_says_what_to_set(
    tmp_path: Path, name: str | None, content: bytes
) -> None:
    if name is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SigningUnavailable, match="MEMAUDIT_SIGNING_KEYS"):
        read_signing_keys(tmp_path)


def test_a_published_key_under_a_wrong_id_is_refused(keys: SigningKeys) -> None:
    published = to_json_web_key(keys.public[0])
    assert from_json_web_key(published).key_id == keys.public[0].key_id
    with pytest.raises(ValueError, match="its id"):
        from_json_web_key(published | {"kid": "b" * 64})


def test_the_command_checks_a_file_with_published_keys(
    tmp_path: Path, document: bytes, keys: SigningKeys
) -> None:
    file, published, model = tmp_path / "audit.json", tmp_path / "keys.json", tmp_path / "model"
    file.write_bytes(document)
    published.write_text(json.dumps({"keys": [to_json_web_key(key) for key in keys.public]}))
    model.mkdir()
    (model / "config.json").write_bytes(b"{}")
    (model / "model.safetensors").write_bytes(WEIGHTS)
    arguments = ["verify", file, "--keys", published, "--model", model]

    good = invoke(*arguments)
    assert good.exit_code == 0, good.output
    assert "ok    directory: holds the 2 files of audited" in good.output
    assert good.output.endswith("Verified. The result is WARNED.\n")

    (model / "model.safetensors").write_bytes(WEIGHTS + b"!")
    bad = invoke(*arguments, "--json")
    assert bad.exit_code == 1
    said = json.loads(bad.output)
    assert not said["verified"]
    assert said["checks"][-1] == {
        "name": "directory",
        "passed": False,
        "found": "not audited: model.safetensors",
    }
    assert said["statement"]["predicate"]["result"] == "WARNED"

    published.write_text("{}")
    assert invoke(*arguments).exit_code == 2
