"""Finished work of every kind, made once for all tests of evidence, pages and reports.

The pair is that of `whole_suite`, or of the suite in the directory MEMAUDIT_TEST_SUITE, such as one of nano.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.signing.keys import ensure_signing_key
from tests.deployments import deployments
from tests.edit_requests import succeeded
from tests.live_service import SCOPES, LiveService, fresh_key, make_key

METRICS = ["nl", "extraction", "p_z", "membership"]
# Words that stand in no other text: 20 characters of them are in no document by chance.
CANARY = "Marzipan {0:04d} quagmire obelisk {0:04d} zeppelin fjord {0:04d} vixen jukebox sphinx {0:04d}"
CANARIES_A_SET = 2

# One that passes, one that fails and one that cannot tell, as far as a tiny pair has them.
RULES: dict[str, list[dict[str, Any]]] = {
    "audit": [
        {"kind": "rate", "metric": "strict", "at_most": 0.9},
        {"kind": "rate", "metric": "strict", "at_most": 0.001},
        {"kind": "no_memorized_text", "q": 0.2},
        {"kind": "membership_auc", "score": "loss", "at_most": 0.6},
    ],
    "study": [{"kind": "mean_difference", "at_most": 0.01}],
    "edit": [
        {"kind": "rate", "metric": "strict", "at_most": 0.1, "texts": "seen"},
        {"kind": "perplexity", "max_increase": 5.0},
    ],
}

Record = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """A service with finished work on it.

    Attributes:
        service: with one worker; its own client may read and write, and may not read texts in evidence.
        full: a client whose key has `audit:evidence` too.
        suite: the directory of the pair.
        audit: of the perturbed model on labelled texts, with control texts and the standard model as
            reference; it names its policy when it is asked for.
        plain_audit: of the standard model on the same texts, without anything else.
        study: the pair.
        edit: the perturbed model by K-FAC.
        gates: the id of a gate on each of `audit`, `study` and `edit`, by these names.
        submitted: every text that was sent.
    """

    service: LiveService
    full: httpx.Client
    suite: Path
    audit: str
    plain_audit: str
    study: str
    edit: str
    gates: dict[str, str]
    submitted: frozenset[str]

    def subjects(self) -> dict[str, str]:
        """The addresses of all subjects of evidence by their ids."""
        audits = {each: f"/v1/audits/{each}" for each in (self.audit, self.plain_audit)}
        others = {self.study: f"/v1/studies/{self.study}", self.edit: f"/v1/edits/{self.edit}"}
        return audits | others | {each: f"/v1/gates/{each}" for each in self.gates.values()}


@dataclass
class _Uploads:
    """Text sets as they are sent, each with texts that can be told from all others."""

    service: LiveService
    submitted: set[str] = field(default_factory=set)
    canaries: int = 0

    def send(self, name: str, records: Iterable[Record]) -> str:
        """Store a text set; its id."""
        texts = [*records, *(self._canary() for _ in range(CANARIES_A_SET))]
        self.submitted.update(record["text"] for record in texts)
        return self.service.upload(texts, name)

    def _canary(self) -> Record:
        self.canaries += 1
        text = CANARY.format(self.canaries)
        return {
            "id": f"canary-{self.canaries}",
            "text": text,
            "duplicates": 0,
            "member": False,
            "group": "canary",
        }


@pytest.fixture(scope="session")
def pair(request: pytest.FixtureRequest) -> Path:
    """A standard and a perturbed model with their text sets."""
    given = os.environ.get("MEMAUDIT_TEST_SUITE")
    suite: Path = request.getfixturevalue("whole_suite") if given is None else Path(given).absolute()
    return suite


@pytest.fixture(scope="session")
def evidence(pair: Path) -> Iterator[Evidence]:
    """A service on which an audit, a study, an edit and gates on each have succeeded."""
    with deployments([pair]) as deploy:
        service = deploy(lease_seconds=30.0).service
        ensure_signing_key(service.directory / "signing-keys")
        service.start_worker()
        key = make_key(service.database_url, scopes=[*SCOPES, "audit:evidence"])
        with service.client_for(key) as full:
            yield _make(service, full, pair)


def _make(service: LiveService, full: httpx.Client, pair: Path) -> Evidence:
    uploads = _Uploads(service)
    texts, controls = _split(_read(pair / "texts.jsonl"))
    text_set = uploads.send("insertions", texts)
    control_set = uploads.send("never inserted", controls)
    standard, perturbed = (service.register(pair / name) for name in ("standard", "perturbed"))
    asked = {"metrics": METRICS, "options": {"prefix_token": "eos", "fdr": 0.2}}
    audit = service.audit(
        perturbed,
        text_set,
        control_text_set=control_set,
        reference_model=standard,
        policy=_policy(service, "audit"),
        **asked,
    )
    plain = service.audit(standard, text_set, **asked)
    study = _request(
        service,
        "/v1/studies",
        name="pair",
        kind="pair",
        text_set=text_set,
        models=[{"model": standard, "label": "standard"}, {"model": perturbed, "label": "perturbed"}],
        **asked,
    )
    for path in (f"/v1/audits/{audit}", f"/v1/audits/{plain}", f"/v1/studies/{study}"):
        _await(service, path)
    # Both models are validated by now.
    edit = succeeded(service, _edit_request(uploads, pair, (perturbed, standard), texts, controls))
    gates = {"audit": service.read(audit)["preregistration"]["gate"]}
    for kind, subject in (("study", study), ("edit", edit["id"])):
        gates[kind] = _request(service, "/v1/gates", policy=_policy(service, kind), **{kind: subject})
    for gate in gates.values():
        _await(service, f"/v1/gates/{gate}")
    return Evidence(
        service=service,
        full=full,
        suite=pair,
        audit=audit,
        plain_audit=plain,
        study=study,
        edit=edit["id"],
        gates=gates,
        submitted=frozenset(uploads.submitted),
    )


def _edit_request(
    uploads: _Uploads, pair: Path, models: tuple[str, str], texts: list[Record], controls: list[Record]
) -> dict[str, Any]:
    """A K-FAC edit of both layers, proved on the most often inserted texts, half of them seen.

    The first of the models is edited, the other one is what it is compared with.
    """
    inserted = sorted(texts, key=lambda record: -record["duplicates"])[:12]
    sets = {
        "memorized_text_set": uploads.send("seen", inserted[::2]),
        "unseen_text_set": uploads.send("unseen", inserted[1::2]),
        "control_text_set": uploads.send("control", controls),
        "clean_text_set": uploads.send("clean", _read(pair / "clean.jsonl")),
        "items_text_set": uploads.send("items", [record for record in texts if record.get("choices")]),
    }
    return {
        "model": models[0],
        "method": "kfac",
        "name": "evidence",
        "layers": [0, 1],
        "calibration_text_set": uploads.send("calibration", _read(pair / "calibration.jsonl")),
        "block_tokens": 64,
        "evaluation": {
            **sets,
            "prefix_token": "eos",
            "stress": "full",
            "reference_model": models[1],
            "limits": {"max_perplexity_increase": 0.5},
        },
    }


def _split(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Texts to audit, and half of those that were never inserted as controls."""
    never = [record for record in records if record["duplicates"] == 0]
    controls = never[::2]
    return [record for record in records if record not in controls], controls


def _read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _policy(service: LiveService, kind: str) -> str:
    """A policy for a kind of subject; its id."""
    response = service.client.post(
        "/v1/policies", json={"name": f"{kind} rules", "rules": RULES[kind]}, headers=fresh_key()
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def _request(service: LiveService, path: str, **body: Any) -> str:
    response = service.client.post(path, json=body, headers=fresh_key())
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def _await(service: LiveService, path: str) -> dict[str, Any]:
    """Work once it has succeeded."""
    for _ in range(20):
        work = dict(service.client.get(path, params={"wait": 30}).json())
        if work["status"] not in {"queued", "running"}:
            break
    assert work["status"] == "succeeded", (work["error"], service.logs()[-2000:])
    return work
