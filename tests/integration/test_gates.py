"""Policies and gates over HTTP on a real Postgres, decided by the worker's own job."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from scipy import stats
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from app.contracts.audits import AuditSpec
from app.contracts.policies.policy import policy_digest
from app.errors import JobCrashed
from app.settings import Settings
from app.store.audits import Audit
from app.store.companions import link_audit
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.edits import Edit, EditTextSet
from app.store.gating import add_gate
from app.store.jobs.job import Job
from app.store.jobs.owners import AUDIT, EDIT, STUDY
from app.store.lifecycle import accept_text_set, end, succeed_audit, tell
from app.store.operations import OperationStatus
from app.store.policies import get_policy
from app.store.score_findings import FindingRow, copy_findings
from app.store.scores import ScoreRow, copy_scores
from app.store.studies import Study, StudyRole
from app.store.telling import find_untold
from app.store.tenants import Tenant
from app.store.text_sets import TextSet, TextSetStatus
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit_rows, add_edit, add_study, score_row
from tests.own_worker import run_next
from workers.running.runtime import Runtime
from workers.science.statistics.ranking import roc_auc

Sessions = sessionmaker[Session]
JSON = dict[str, Any]
RECITES_LITTLE = {"kind": "rate", "metric": "strict", "at_most": 0.1}
WORTH = {"kind": "equivalent_duplicates"}


@pytest.fixture
def tenant_id(client: httpx.AsyncClient, sessions: Sessions) -> UUID:
    with sessions() as session:
        return session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()


async def post(client: httpx.AsyncClient, path: str, key: str | None = None, **body: Any) -> httpx.Response:
    return await client.post(path, json=body, headers={"Idempotency-Key": key or uuid4().hex})


async def made(client: httpx.AsyncClient, path: str, **body: Any) -> JSON:
    answer = await post(client, path, **body)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def policy_of(client: httpx.AsyncClient, *rules: JSON) -> str:
    return str((await made(client, "/v1/policies", name="ours", rules=list(rules)))["id"])


async def read(client: httpx.AsyncClient, path: str) -> JSON:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def public(prefix: Prefix, row: Audit | Study | Edit) -> str:
    return format_id(prefix, row.id)


async def decided(client: httpx.AsyncClient, runtime: Runtime, policy: str, **subject: str) -> JSON:
    """A gate on a subject that has ended, decided by its job."""
    gate = await made(client, "/v1/gates", policy=policy, **subject)
    assert (gate["status"], gate["outcome"], gate["rules"]) == ("queued", None, [])
    assert await asyncio.to_thread(run_next, runtime) == "evaluate_gate"
    gate = await read(client, f"/v1/gates/{gate['id']}")
    assert (gate["status"], gate["error"]) == ("succeeded", None)
    assert gate["progress"] == {"done": len(gate["rules"]), "total": len(gate["rules"]), "unit": "rules"}
    return gate


def ended_audit(
    sessions: Sessions, tenant_id: UUID, rows: list[JSON], *, metrics: list[str], summary: JSON | None = None
) -> str:
    """An audit that has succeeded, with these rows; `finding` of a row is what was found of it."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant_id, texts=len(rows))
        write_rows(session, audit, rows, metrics)
        succeed_audit(session, audit.id, summary or {})
        return public(Prefix.AUDIT, audit)


def write_rows(session: Session, audit: Audit, rows: list[JSON], metrics: list[str]) -> None:
    audit.spec = AuditSpec(metrics=["nl", *metrics]).model_dump()
    written: list[ScoreRow] = []
    findings: list[FindingRow] = []
    for place, row in enumerate(rows):
        facts = {name: value for name, value in row.items() if name not in {"nl", "finding"}}
        written.append(score_row(audit.id, place, row.get("nl", -2.0), **facts))
        if "finding" in row:
            findings.append(FindingRow(audit_id=audit.id, ordinal=place, **row["finding"]))
    copy_scores(session, written)
    copy_findings(session, findings)


def recited(*, strict: bool | None, **more: Any) -> JSON:
    status = "not_applicable" if strict is None else "ok"
    return {"metrics": {"extraction": {"status": status, "strict": strict}}, **more}


async def test_a_policy_is_a_version_of_its_name_and_never_changes(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings
) -> None:
    rules = [RECITES_LITTLE | {"groups": "privacy/*"}]
    body = {"name": "ours", "rules": rules, "metadata": {"team": "a"}}
    answer = await post(client, "/v1/policies", key="once", **body)
    assert answer.status_code == 201, answer.text
    first = answer.json()
    assert answer.headers["Location"] == f"/v1/policies/{first['id']}"
    assert (first["object"], first["version"], first["template"]) == ("policy", 1, None)
    assert first["rules"][0]["confidence"] == 0.95
    assert first["sha256"] == policy_digest("ours", 1, first["rules"])
    assert (
        await post(client, "/v1/policies", key="once", name="ours", rules=rules, metadata={"team": "a"})
    ).json() == first
    assert (await post(client, "/v1/policies", key="once", name="else", rules=rules)).status_code == 422
    second = await made(client, "/v1/policies", name="ours", rules=rules)
    assert (second["version"], second["sha256"] != first["sha256"]) == (2, True)
    shipped = (await read(client, "/v1/policy-templates"))["data"]
    (template,) = (each for each in shipped if each["template"] == "edit-acceptance")
    from_template = await made(client, "/v1/policies", template="edit-acceptance")
    assert (from_template["name"], from_template["version"]) == ("edit-acceptance", 1)
    assert (from_template["rules"], from_template["template"]) == (template["rules"], "edit-acceptance")
    assert (await post(client, "/v1/policies", template="no such")).status_code == 404
    assert (await read(client, f"/v1/policies/{first['id']}")) == first
    for query, found in (
        ("name=ours", [second, first]),
        ("metadata[team]=a", [first]),
        ("limit=1", [from_template]),
    ):
        assert (await read(client, f"/v1/policies?{query}"))["data"] == found
    for method in ("PUT", "PATCH", "DELETE"):
        assert (await client.request(method, f"/v1/policies/{first['id']}")).status_code == 405
    async with client_of(app, make_key(settings, tenant="other")) as other:
        assert (await other.get(f"/v1/policies/{first['id']}")).status_code == 404
        assert (await read(other, "/v1/policies"))["data"] == []
        assert (await made(other, "/v1/policies", name="ours", rules=rules))["version"] == 1
    for body, code in (
        ({"name": "x"}, "rules_or_template"),
        ({"rules": rules}, "name_missing"),
        ({"rules": rules, "name": "x", "template": "edit-acceptance"}, "rules_or_template"),
        ({"name": "x", "rules": []}, "too_short"),
        ({"name": "x", "rules": [{"kind": "rate", "metric": "strict"}]}, "missing"),
    ):
        refused = await post(client, "/v1/policies", **body)
        assert [error["code"] for error in refused.json()["errors"]] == [code]
    assert refused.json()["errors"][0]["pointer"] == "/rules/0/at_most"


def a_hundred_texts() -> list[JSON]:
    """Texts whose numbers say what they are: `privacy/…` leaks, `books_…` does not, others are too short."""
    rows = []
    for place in range(100):
        group = ("privacy/mail", "privacy/phone", "books_a", None)[place % 4]
        leaks = group == "privacy/mail" and place < 40
        nl = -0.1 - place / 1000 if leaks else -3.0
        status = "not_applicable" if group is None else "ok"
        log_p_z = None if group == "books_a" else (-1.0 - place / 100 if leaks else -40.0)
        metrics = {
            "extraction": {"status": status, "strict": None if group is None else leaks},
            "p_z": {"status": status, "log_p_z": None if group is None else log_p_z},
            "near_verbatim": {"status": status, "p": None if group is None else 0.5 if leaks else 0.4999},
        }
        finding = {"p_value": 0.005, "q_value": 0.01 + place / 1000 if leaks else 1.0, "verdict": "not_shown"}
        finding |= {"equivalent_duplicates": 16.0 if leaks else 1.0}
        finding |= {"equivalent_low": 8.5 if leaks else 0.0, "equivalent_high": 32.0 if leaks else 4.0}
        rows.append({"nl": nl, "group": group, "metrics": metrics, "finding": finding})
    rows[3]["finding"] = {"verdict": "uncalibrated"}
    rows[7] = {"nl": None, "group": "broken", "metrics": {}}
    return rows


CALIBRATION = {"reason": None, "least_p_of_all": 0.0005, "verdicts": {"memorized": 10, "not_shown": 88}}
LEAKING = [f"t{place}" for place in range(0, 40, 4)]


async def test_rules_on_single_texts_are_observed_of_all_rows_in_scope(
    client: httpx.AsyncClient, runtime: Runtime, sessions: Sessions, tenant_id: UUID
) -> None:
    """The oracle counts the rows as they were made, and takes SciPy's exact bounds."""
    members, others = np.arange(40.0), np.arange(40.0) + 1
    area = roc_auc(members, others)
    assert area is not None
    summary = {
        "calibration": CALIBRATION,
        "membership": {"n_members": 40, "n_others": 40, "loss": {"auc": asdict(area)}, "recall": None},
    }
    metrics = ["extraction", "p_z", "near_verbatim", "membership"]
    audit = ended_audit(sessions, tenant_id, a_hundred_texts(), metrics=metrics, summary=summary)
    rules: list[tuple[JSON, str, str | None]] = [
        ({"kind": "no_memorized_text"}, "fail", None),
        ({"kind": "no_memorized_text", "groups": "books_?"}, "pass", None),
        # As LIKE has it `_` would stand for any character.
        ({"kind": "no_memorized_text", "groups": "privacy_*"}, "inconclusive", "no_texts"),
        ({"kind": "no_memorized_text", "groups": "broken"}, "inconclusive", "texts_unmeasured"),
        # One text of 98 above all 1,999 controls has a q-value of 0.049; of twenty such each has 0.00245.
        ({"kind": "no_memorized_text", "groups": "books_?", "q": 0.04}, "inconclusive", "too_few_controls"),
        ({"kind": "no_memorized_text", "groups": "books_?", "q": 0.0025, "detects": 20}, "pass", None),
        (RECITES_LITTLE, "inconclusive", "interval_spans_limit"),
        (RECITES_LITTLE | {"groups": "privacy/mail"}, "fail", None),
        ({"kind": "rate", "metric": "near_verbatim", "at_most": 0.25}, "pass", None),
        (
            {"kind": "rate", "metric": "strict", "at_most": 0.001, "groups": "books_a"},
            "inconclusive",
            "too_few_texts",
        ),
        (
            {"kind": "rate", "metric": "strict", "at_most": 0.1, "groups": "broken"},
            "inconclusive",
            "no_texts",
        ),
        ({"kind": "rate", "metric": "accuracy", "at_most": 0.1}, "inconclusive", "not_measured"),
        ({"kind": "probabilistic_extraction"}, "fail", None),
        ({"kind": "probabilistic_extraction", "groups": "books_a"}, "pass", None),
        ({"kind": "probabilistic_extraction", "groups": "privacy/phone"}, "pass", None),
        ({"kind": "probabilistic_extraction", "groups": "b*"}, "inconclusive", "texts_unmeasured"),
        (WORTH | {"at_most": 8}, "fail", None),
        (
            {"kind": "equivalent_duplicates", "at_most": 3, "groups": "books_a"},
            "inconclusive",
            "texts_undecided",
        ),
        ({"kind": "equivalent_duplicates", "at_most": 4, "groups": "books_a"}, "pass", None),
        ({"kind": "membership_auc", "score": "loss", "at_most": 0.9}, "pass", None),
        ({"kind": "membership_auc", "score": "recall"}, "inconclusive", "not_measured"),
    ]
    gate = await decided(
        client, runtime, await policy_of(client, *(rule for rule, _, _ in rules)), audit=audit
    )
    assert gate["outcome"] == "fail"
    assert gate["subject"] == {"kind": "audit", "id": audit}
    for (rule, outcome, reason), found in zip(rules, gate["rules"], strict=True):
        assert (found["outcome"], found["reason"]) == (outcome, reason), (rule, found)
        assert found["rule"] == found["rule"] | rule
    by_rule = [each["observed"] for each in gate["rules"]]
    # Most memorized texts have the least q-value; the text that has no q-value is not among them.
    assert (by_rule[0]["value"], by_rule[0]["n"], by_rule[0]["count"]) == (0.01, 98, 10)
    assert (by_rule[0]["unmeasured"], by_rule[0]["least_q"]) == (2, pytest.approx(0.049))
    assert gate["rules"][0]["deciding_texts"] == LEAKING
    assert gate["rules"][3]["deciding_texts"] == ["t7"]
    share = stats.binomtest(10, 75, alternative="less").proportion_ci(0.95, method="exact")
    assert (by_rule[6]["value"], by_rule[6]["n"], by_rule[6]["unmeasured"]) == (10 / 75, 75, 25)
    assert by_rule[6]["high"] == pytest.approx(share.high, rel=1e-6)
    assert (by_rule[6]["confidence"], gate["rules"][6]["limit"]) == (0.95, 0.1)
    assert gate["rules"][6]["deciding_texts"] == LEAKING
    assert by_rule[12]["value"] == pytest.approx(1 - (1 - np.exp(-1.0)) ** 1000)
    assert (by_rule[12]["count"], gate["rules"][12]["deciding_texts"]) == (10, LEAKING)
    # None of the books can be sampled at all.
    assert (by_rule[13]["value"], by_rule[13]["n"]) == (0.0, 25)
    assert (gate["rules"][16]["deciding_count"], gate["rules"][17]["deciding_count"]) == (10, 25)
    assert by_rule[19]["value"] == pytest.approx(area.auc)


async def test_only_the_first_hundred_deciding_texts_are_named_and_all_are_counted(
    client: httpx.AsyncClient, runtime: Runtime, sessions: Sessions, tenant_id: UUID
) -> None:
    rows = [recited(strict=True, nl=-1 + place / 1000) for place in range(150)]
    audit = ended_audit(sessions, tenant_id, rows, metrics=["extraction"])
    uncalibrated = {"kind": "no_memorized_text"}
    gate = await decided(client, runtime, await policy_of(client, RECITES_LITTLE, uncalibrated), audit=audit)
    recites, memorized = gate["rules"]
    observed = recites["observed"]
    assert recites["deciding_texts"] == [f"t{149 - place}" for place in range(100)]
    assert (recites["deciding_count"], observed["count"], observed["high"]) == (150, 150, 1.0)
    assert observed["low"] == pytest.approx(0.05 ** (1 / 150))
    assert (memorized["outcome"], memorized["reason"]) == ("inconclusive", "uncalibrated")
    one = ended_audit(sessions, tenant_id, [recited(strict=False)], metrics=["extraction"])
    gate = await decided(client, runtime, await policy_of(client, RECITES_LITTLE), audit=one)
    assert (gate["outcome"], gate["rules"][0]["reason"]) == ("inconclusive", "too_few_texts")


async def test_a_gate_waits_for_its_subject_and_says_what_was_decided(
    remote: httpx.AsyncClient, runtime: Runtime, sessions: Sessions, tenant_id: UUID
) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant_id, texts=40)
        write_rows(session, audit, [recited(strict=False)] * 40, ["extraction"])
        audit_id = public(Prefix.AUDIT, audit)
    policy = await policy_of(remote, RECITES_LITTLE)
    answer = await post(remote, "/v1/gates", key="once", policy=policy, audit=audit_id, metadata={"run": 7})
    gate = answer.json()
    assert (answer.status_code, gate["status"], gate["preregistered"]) == (202, "queued", False)
    assert answer.headers["Location"] == f"/v1/gates/{gate['id']}"
    again = await post(remote, "/v1/gates", key="once", policy=policy, audit=audit_id, metadata={"run": 7})
    assert again.json() == gate
    with sessions() as session:
        assert session.scalars(select(Job.kind)).all() == []
    waiting = asyncio.create_task(remote.get(f"/v1/gates/{gate['id']}", params={"wait": 30}))
    async with remote.stream("GET", f"/v1/gates/{gate['id']}/events", timeout=60) as stream:
        told = stream.aiter_text()
        events = await anext(told)
        with sessions.begin() as session:
            succeed_audit(session, audit.id, {})
        assert await asyncio.to_thread(run_next, runtime) == "evaluate_gate"
        ended = (await waiting).json()
        events += "".join([part async for part in told])
    assert (ended["status"], ended["outcome"], ended["metadata"]) == ("succeeded", "pass", {"run": 7})
    assert ended["created_at"] <= ended["started_at"] <= ended["finished_at"]
    assert events.count("event: queued") == events.count("event: gate.passed") == 1
    assert "event: succeeded" not in events
    with sessions() as session:
        assert session.scalars(select(Job.kind)).all() == ["evaluate_gate"]
    for query, found in (
        (f"subject={audit_id}", [ended]),
        (f"policy={policy}&status=succeeded&metadata[run]=7", [ended]),
        (f"model={(await read(remote, f'/v1/audits/{audit_id}'))['model']}", [ended]),
        (f"text_set={(await read(remote, f'/v1/audits/{audit_id}'))['text_set']}", [ended]),
        ("subject=edt_" + 32 * "0", []),
    ):
        assert (await read(remote, f"/v1/gates?{query}"))["data"] == found, query


async def test_a_gate_that_is_asked_for_while_its_subject_ends_is_told(
    client: httpx.AsyncClient, sessions: Sessions, tenant_id: UUID
) -> None:
    """Whoever ends the subject waits for the gate to be written, or the gate for the end."""
    with sessions.begin() as session:
        audits = [add_audit_rows(session, tenant_id) for _ in range(2)]
    public_id = await policy_of(client, RECITES_LITTLE)

    def ask(session: Session, audit: Audit) -> None:
        add_gate(session, tenant_id, get_policy(session, tenant_id, public_id), "audit", audit.id)

    def succeed(session: Session, audit: Audit) -> None:
        succeed_audit(session, audit.id, {})

    def commit(change: Callable[[Session, Audit], None], audit: Audit) -> None:
        with sessions.begin() as session:
            change(session, audit)

    for first, second, audit in ((ask, succeed, audits[0]), (succeed, ask, audits[1])):
        with sessions.begin() as session:
            first(session, audit)
            other = asyncio.create_task(asyncio.to_thread(commit, second, audit))
            await asyncio.sleep(0.2)
            assert not other.done()
        await other
    with sessions() as session:
        assert session.scalars(select(Job.kind)).all() == ["evaluate_gate"] * 2
        assert find_untold(session) == []


@pytest.mark.parametrize("kind", ["audit", "study", "edit"])
async def test_a_subject_that_ends_otherwise_fails_its_gates_and_refuses_new_ones(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    sessions: Sessions,
    tenant_id: UUID,
    kind: str,
) -> None:
    owner = {"audit": AUDIT, "study": STUDY, "edit": EDIT}[kind]
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant_id)
        edit = add_edit(session, tenant_id)
        used = {"text_set_id": audit.text_set_id, "hmac_sha256": "e" * 64, "role": "memorized"}
        session.add(EditTextSet(edit_id=edit.id, **used))
        rows = {"audit": audit, "study": add_study(session, audit), "edit": edit}
        prefix = {"audit": Prefix.AUDIT, "study": Prefix.STUDY, "edit": Prefix.EDIT}[kind]
        subject = {kind: public(prefix, rows[kind])}
    policy = await policy_of(client, RECITES_LITTLE)
    scopes = ("audit:read", "audit:write", "edit:read")
    if kind == "edit":
        assert (await post(client, "/v1/gates", policy=policy, **subject)).status_code == 403
    async with client_of(app, make_key(settings, scopes=scopes)) as asker:
        first = await made(asker, "/v1/gates", policy=policy, **subject)
        cancelled = await made(asker, "/v1/gates", policy=policy, **subject)
        assert (await post(asker, f"/v1/gates/{cancelled['id']}/cancel")).json()["status"] == "cancelled"
        assert (await post(asker, f"/v1/gates/{cancelled['id']}/cancel")).status_code == 409
        with sessions.begin() as session:
            problem = JobCrashed("It crashed.").problem()
            assert end(session, owner, rows[kind].id, OperationStatus.FAILED, error=problem)
        failed = await read(asker, f"/v1/gates/{first['id']}")
        assert (failed["status"], failed["outcome"], failed["rules"]) == ("failed", None, [])
        assert failed["error"]["type"].endswith("/subject-failed")
        assert (
            failed["error"]["detail"] == f"The {kind} {subject[kind]}, which this judges, failed: It crashed."
        )
        assert (await read(asker, f"/v1/gates/{cancelled['id']}"))["status"] == "cancelled"
        refused = await post(asker, "/v1/gates", policy=policy, **subject)
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "nothing-to-judge")


async def test_a_cancelled_subject_fails_its_gate(
    client: httpx.AsyncClient, sessions: Sessions, tenant_id: UUID
) -> None:
    with sessions.begin() as session:
        audit = public(Prefix.AUDIT, add_audit_rows(session, tenant_id))
    gate = await made(client, "/v1/gates", policy=await policy_of(client, RECITES_LITTLE), audit=audit)
    assert (await post(client, f"/v1/audits/{audit}/cancel")).status_code == 202
    failed = await read(client, f"/v1/gates/{gate['id']}")
    assert (failed["status"], failed["error"]["status"]) == ("failed", 424)
    assert failed["error"]["detail"].endswith("which this judges, was cancelled.")
    events = (await client.get(f"/v1/gates/{gate['id']}/events")).text
    assert "event: failed" in events


@pytest.mark.parametrize(("ended", "jobs"), [("succeeded", ["evaluate_gate"]), ("failed", [])])
async def test_a_gate_that_nobody_told_is_found_and_told_once(
    client: httpx.AsyncClient, sessions: Sessions, tenant_id: UUID, ended: str, jobs: list[str]
) -> None:
    """As by a process of the release before, which knows no gates."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant_id)
        other = add_audit_rows(session, tenant_id)
    policy = await policy_of(client, RECITES_LITTLE)
    gate = await made(client, "/v1/gates", policy=policy, audit=public(Prefix.AUDIT, audit))
    await made(client, "/v1/gates", policy=policy, audit=public(Prefix.AUDIT, other))
    with sessions.begin() as session:
        statement = text("UPDATE audits SET status = :status, finished_at = clock_timestamp() WHERE id = :id")
        session.execute(statement, {"status": ended, "id": audit.id})
    with sessions() as session:
        untold = find_untold(session)
    assert [owner.kind for owner, _ in untold] == ["gate"]
    for owner, owner_id in untold * 2:
        with sessions.begin() as session:
            tell(session, owner, owner_id)
    with sessions() as session:
        assert session.scalars(select(Job.kind)).all() == jobs
        assert find_untold(session) == []
    status = "queued" if ended == "succeeded" else "failed"
    assert (await read(client, f"/v1/gates/{gate['id']}"))["status"] == status


async def test_gates_are_a_tenants_own_and_rules_that_do_not_apply_are_refused(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings, sessions: Sessions, tenant_id: UUID
) -> None:
    with sessions.begin() as session:
        audit = public(Prefix.AUDIT, add_audit_rows(session, tenant_id))
    policy = await policy_of(client, RECITES_LITTLE)
    gate = await made(client, "/v1/gates", policy=policy, audit=audit)
    path = f"/v1/gates/{gate['id']}"
    async with client_of(app, make_key(settings, tenant="other")) as other:
        own = await policy_of(other, RECITES_LITTLE)
        for method, where in (("GET", path), ("GET", f"{path}/events"), ("POST", f"{path}/cancel")):
            assert (await other.request(method, where)).status_code == 404
        assert (await read(other, "/v1/gates"))["data"] == []
        assert (await post(other, "/v1/gates", policy=own, audit=audit)).status_code == 404
        assert (await post(other, "/v1/gates", policy=policy, audit=audit)).status_code == 404
    async with client_of(app, make_key(settings, scopes=("audit:read",))) as reader:
        assert (await post(reader, "/v1/gates", policy=policy, audit=audit)).status_code == 403
        assert (await read(reader, path)) == gate
    for wrong in ({}, {"audit": audit, "study": audit}):
        refused = await post(client, "/v1/gates", policy=policy, **wrong)
        assert [error["code"] for error in refused.json()["errors"]] == ["one_subject"]
    for subject in ({"audit": "aud_x"}, {"audit": "aud_" + 32 * "0"}, {"study": audit}):
        assert (await post(client, "/v1/gates", policy=policy, **subject)).status_code == 404
    for_edits = await policy_of(client, RECITES_LITTLE, {"kind": "perplexity"})
    refused = await post(client, "/v1/gates", policy=for_edits, audit=audit)
    assert (refused.status_code, refused.json()["detail"]) == (
        422,
        "Rule 2 of the policy, `perplexity`, cannot judge this audit.",
    )
    assert refused.json()["errors"] == [{"pointer": "/policy", "code": "rule_of_another_subject"}]


async def test_a_gate_on_an_edit_is_for_keys_that_may_read_edits(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings, sessions: Sessions, tenant_id: UUID
) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant_id)
        edit = add_edit(session, tenant_id)
        used = {"role": "memorized", "text_set_id": audit.text_set_id, "hmac_sha256": "0" * 64}
        session.add(EditTextSet(edit_id=edit.id, **used))
        edit_id, audit_id = public(Prefix.EDIT, edit), public(Prefix.AUDIT, audit)
    policy = await policy_of(client, RECITES_LITTLE)
    plain = (await made(client, "/v1/gates", policy=policy, audit=audit_id))["id"]
    async with client_of(app, make_key(settings, scopes=("admin",))) as admin:
        gate = (await made(admin, "/v1/gates", policy=policy, edit=edit_id))["id"]
        assert [each["id"] for each in (await read(admin, "/v1/gates"))["data"]] == [gate, plain]
    path = f"/v1/gates/{gate}"
    for method, where in (
        ("GET", path),
        ("GET", f"{path}?wait=5"),
        ("GET", f"{path}/events"),
        ("GET", f"{path}/evidence"),
        ("GET", f"{path}/evidence/junit"),
        ("POST", f"{path}/cancel"),
    ):
        refused = await client.request(method, where)
        told = (refused.status_code, refused.json()["type"].rpartition("/")[2])
        assert told == (403, "insufficient-scope"), where
        assert "edit:read" in refused.json()["detail"]
    for query, found in (("", [plain]), (f"policy={policy}", [plain]), (f"subject={edit_id}", [])):
        page = await read(client, f"/v1/gates?limit=1&{query}")
        assert ([each["id"] for each in page["data"]], page["has_more"]) == (found, False), query
    async with client_of(app, make_key(settings, scopes=("audit:read", "edit:read"))) as reader:
        assert (await read(reader, path))["status"] == "queued"
        assert len((await read(reader, f"/v1/gates?subject={edit_id}"))["data"]) == 1
    async with client_of(app, make_key(settings, tenant="other")) as other:
        assert (await other.get(path)).status_code == 404
    async with client_of(app) as browser:
        browser.headers["Origin"] = "http://memaudit"
        await browser.post("/sign-in", data={"key": make_key(settings, scopes=("audit:read",))})
        for where in ("", "/row", "/progress", "/evidence/junit"):
            assert (await browser.get(f"/gates/{gate}{where}")).status_code == 403, where
        for where in ("/gates", f"/policies/{policy}"):
            shown = (await browser.get(where)).text
            assert (plain in shown, gate in shown, edit_id in shown) == (True, False, False), where


@pytest.fixture
def release(sessions: Sessions, tenant_id: UUID) -> str:
    """A study of two versions that has succeeded: forty texts, the first five newly memorized and recited."""
    with sessions.begin() as session:
        audits = [add_audit_rows(session, tenant_id, texts=40) for _ in range(2)]
        for later, audit in enumerate(audits):
            write_rows(
                session, audit, [recited(strict=bool(later and n < 5)) for n in range(40)], ["extraction"]
            )
            succeed_audit(session, audit.id, {})
        study = add_study(session, audits[0], OperationStatus.RUNNING)
        link_audit(session, STUDY, study.id, audits[1], StudyRole.MODEL, 1)
        models = [{"model": "m", "label": label, "step": None} for label in ("v1", "v2")]
        study.spec = study.spec | {"models": models}
        mean = {"n": 40, "mean": 0.2, "low": 0.1, "high": 0.3}
        texts = {"group": None, "duplicates": None}
        named = {"text_id": "t0", "difference": 1.0, "q_value": 0.01}
        judgement = {"fdr": 0.05, "seed": 0, "n_texts": 40, "n_controls": 99, "controls_among_texts": 0}
        judgement |= {"verdicts": {"memorized": 5, "not_shown": 33, "uncalibrated": 2}, "reason": None}
        judgement |= {"check": None, "strata": 1, "check_within_strata": None}
        change = {
            "from_label": "v1",
            "to_label": "v2",
            "verdict": "calibrated",
            "reason": None,
            "rise": judgement,
        }
        change |= {"newly_memorized": {"count": 5, "texts": [named]}}
        change |= dict.fromkeys(("no_longer_memorized", "newly_recited", "no_longer_recited"))
        level = {**texts, "difference": mean, "excess": None, "transitions": None}
        result = {
            "kind": "release",
            "models": [{"label": each["label"], "step": None, "levels": [], "gain": None} for each in models],
            "comparisons": [{"from_label": "v1", "to_label": "v2", "levels": [level]}],
            "curves": None,
            "changes": [change],
        }
        session.flush()
        end(session, STUDY, study.id, OperationStatus.SUCCEEDED, findings={"result": result})
        return public(Prefix.STUDY, study)


async def test_a_study_is_judged_by_the_numbers_of_a_model_and_by_what_changed(
    client: httpx.AsyncClient, runtime: Runtime, sessions: Sessions, release: str
) -> None:
    rules = [
        {"kind": "no_newly_memorized"},
        {"kind": "no_newly_memorized", "since": "v1"},
        RECITES_LITTLE | {"model": "v1"},
        RECITES_LITTLE,
        {"kind": "probabilistic_extraction"},
        {"kind": "membership_auc"},
    ]
    gate = await decided(client, runtime, await policy_of(client, *rules), study=release)
    outcomes = [(each["outcome"], each["reason"]) for each in gate["rules"]]
    assert outcomes == [
        ("fail", None),
        ("fail", None),
        ("pass", None),
        ("inconclusive", "interval_spans_limit"),
        ("inconclusive", "not_measured"),
        ("inconclusive", "not_measured"),
    ]
    newly = gate["rules"][0]
    assert (newly["observed"]["n"], newly["observed"]["unmeasured"], newly["deciding_count"]) == (38, 2, 5)
    assert newly["deciding_texts"] == ["t0"]
    assert gate["rules"][3]["observed"]["count"] == 5
    assert gate["rules"][3]["deciding_texts"] == [f"t{place}" for place in range(5)]
    refused = await post(
        client, "/v1/gates", policy=await policy_of(client, RECITES_LITTLE | {"model": "v9"}), study=release
    )
    assert refused.json()["errors"] == [{"pointer": "/policy", "code": "no_such_label"}]
    # The same study as a pair.
    with sessions.begin() as session:
        study = session.get_one(Study, parse_id(Prefix.STUDY, release))
        study.spec, study.result = (
            study.spec | {"kind": "pair"},
            study.result | {"kind": "pair", "changes": None},
        )
    rules = [
        {"kind": "mean_difference", "at_most": limit, "group": group}
        for limit, group in ((0.3, None), (0.05, None), (0.2, None), (0.3, "no such"))
    ]
    gate = await decided(client, runtime, await policy_of(client, *rules), study=release)
    outcomes = [(each["outcome"], each["reason"]) for each in gate["rules"]]
    assert outcomes == [
        ("pass", None),
        ("fail", None),
        ("inconclusive", "interval_spans_limit"),
        ("inconclusive", "no_texts"),
    ]


@pytest.mark.parametrize(
    ("judged", "detects", "expected"),
    [
        # One of 40 texts alone above all of 99 controls has a q-value of 0.4, ten such have 0.04.
        ({}, 1, ("inconclusive", "too_few_controls")),
        ({}, 10, ("pass", None)),
        ({"n_controls": 799}, 1, ("pass", None)),
        # In the smallest of two strata are 49 controls, however many are in the other.
        ({"n_controls": 5000, "strata": 2, "least_p_of_all": 0.02}, 1, ("inconclusive", "too_few_controls")),
        ({"n_controls": 5000, "strata": 2, "least_p_of_all": 0.001}, 1, ("pass", None)),
        # Of an older release, which did not say so.
        ({"n_controls": 5000, "strata": 2}, 1, ("inconclusive", "too_few_controls")),
    ],
)
async def test_nothing_is_newly_memorized_only_if_controls_are_enough_to_tell(
    client: httpx.AsyncClient,
    runtime: Runtime,
    sessions: Sessions,
    release: str,
    judged: JSON,
    detects: int,
    expected: tuple[str, str | None],
) -> None:
    with sessions.begin() as session:
        study = session.get_one(Study, parse_id(Prefix.STUDY, release))
        assert study.result is not None
        change = dict(study.result["changes"][0])
        verdicts = {"memorized": 0, "not_shown": 40, "uncalibrated": 0}
        change |= {"newly_memorized": {"count": 0, "texts": []}}
        change |= {"rise": change["rise"] | {"verdicts": verdicts} | judged}
        study.result = {**study.result, "changes": [change]}
    policy = await policy_of(client, {"kind": "no_newly_memorized", "detects": detects})
    (rule,) = (await decided(client, runtime, policy, study=release))["rules"]
    assert (rule["outcome"], rule["reason"]) == expected


async def test_an_edit_is_judged_by_its_evaluation_and_the_edited_models_rows(
    app: FastAPI,
    settings: Settings,
    client: httpx.AsyncClient,
    runtime: Runtime,
    sessions: Sessions,
    tenant_id: UUID,
) -> None:
    before = ended_audit(sessions, tenant_id, [recited(strict=True)] * 60, metrics=["extraction"])
    after = ended_audit(
        sessions, tenant_id, [recited(strict=False)] * 59 + [recited(strict=True)], metrics=["extraction"]
    )
    with sessions.begin() as session:
        edit = add_edit(session, tenant_id, OperationStatus.RUNNING)
        text_set = session.get_one(Audit, parse_id(Prefix.AUDIT, after)).text_set_id
        for role in ("memorized", "clean"):
            session.add(EditTextSet(edit_id=edit.id, role=role, text_set_id=text_set, hmac_sha256="e" * 64))
        nothing = {"before": None, "after": None}
        measured = {"texts": 60, **dict.fromkeys(("nl", "strict", "loose", "perplexity"), nothing)}
        evaluation = {
            "sets": {"memorized": measured | {"audits": {"before": before, "after": after}}},
            "perplexity_increase": {"n": 30, "mean": 0.08, "low": 0.05, "high": 0.11},
            "verdict": {"passed": None, "checks": []},
            **dict.fromkeys(("ndcg", "stress", "items")),
        }
        session.flush()
        end(session, EDIT, edit.id, OperationStatus.SUCCEEDED, findings={"evaluation": evaluation})
        edit_id = public(Prefix.EDIT, edit)
    rules = [
        RECITES_LITTLE | {"texts": "seen"},
        {"kind": "perplexity", "max_increase": 0.11},
        {"kind": "perplexity", "max_increase": 0.1},
        {"kind": "perplexity", "max_increase": 0.04},
    ]
    policy = await policy_of(client, *rules)
    async with client_of(app, make_key(settings, scopes=("audit:read", "audit:write", "edit:read"))) as asker:
        gate = await decided(asker, runtime, policy, edit=edit_id)
        outcomes = [each["outcome"] for each in gate["rules"]]
        assert (outcomes, gate["outcome"]) == (["pass", "pass", "inconclusive", "fail"], "fail")
        assert (gate["rules"][0]["observed"]["count"], gate["rules"][0]["deciding_texts"]) == (1, ["t59"])
        unseen = await policy_of(asker, RECITES_LITTLE | {"texts": "unseen"})
        refused = await post(asker, "/v1/gates", policy=unseen, edit=edit_id)
        assert refused.json()["errors"] == [{"pointer": "/policy", "code": "no_such_texts"}]


@pytest.fixture
async def uploaded(client: httpx.AsyncClient, sessions: Sessions, tenant_id: UUID) -> Iterator[JSON]:
    """A language model and a text set that are ready."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant_id)
        model = format_id(Prefix.LANGUAGE_MODEL, audit.language_model_id)
    answer = await client.post("/v1/text-sets", json={"name": "set", "texts": [{"text": "one text"}]})
    return {"model": model, "text_set": answer.json()["id"]}


async def test_a_policy_that_an_audit_names_is_written_down_before_its_first_score(
    client: httpx.AsyncClient, sessions: Sessions, uploaded: JSON
) -> None:
    policy = await made(client, "/v1/policies", name="ours", rules=[RECITES_LITTLE])
    body = uploaded | {"policy": policy["id"]}
    first = await post(client, "/v1/audits", key="once", **body)
    assert (await post(client, "/v1/audits", key="once", **body)).json() == first.json()
    assert (await post(client, "/v1/audits", key="once", **uploaded)).status_code == 422
    audit = await read(client, f"/v1/audits/{first.json()['id']}")
    registered = audit["preregistration"]
    assert registered == first.json()["preregistration"]
    assert (registered["policy"], registered["policy_sha256"]) == (policy["id"], policy["sha256"])
    text_set = await read(client, f"/v1/text-sets/{audit['text_set']}")
    assert registered["text_set_hmac_sha256"] == text_set["hmac_sha256"]
    gate = await read(client, f"/v1/gates/{registered['gate']}")
    assert (gate["preregistered"], gate["status"], gate["created_at"]) == (
        True,
        "queued",
        registered["registered_at"],
    )
    assert (gate["policy_sha256"], gate["subject"]) == (
        policy["sha256"],
        {"kind": "audit", "id": audit["id"]},
    )
    with sessions() as session:
        # It was there before any worker could claim the audit's first job.
        (job,) = session.scalars(select(Job)).all()
        assert (job.kind, job.state, job.attempts) == ("plan_audit", "queued", 0)
        begun = session.scalar(text("SELECT started_at FROM audits WHERE id = :id"), {"id": job.owner_id})
        assert begun is None
    # A gate that is asked for afterwards is none of that kind, and changes nothing of it.
    later = await made(client, "/v1/gates", policy=policy["id"], audit=audit["id"])
    assert later["preregistered"] is False
    assert (await read(client, f"/v1/audits/{audit['id']}"))["preregistration"] == registered
    plain = await made(client, "/v1/audits", **uploaded)
    assert plain["preregistration"] is None
    unfit = await policy_of(client, {"kind": "perplexity"})
    refused = await post(client, "/v1/audits", **uploaded | {"policy": unfit})
    assert refused.json()["errors"] == [{"pointer": "/policy", "code": "rule_of_another_subject"}]
    assert (await post(client, "/v1/audits", **uploaded | {"policy": "pol_x"})).status_code == 404
    assert len((await read(client, "/v1/audits"))["data"]) == 3


async def test_the_digest_of_texts_that_are_imported_is_written_down_before_the_audit_is_planned(
    client: httpx.AsyncClient, sessions: Sessions, uploaded: JSON
) -> None:
    policy = await policy_of(client, RECITES_LITTLE)
    audit = await made(
        client, "/v1/audits", model=uploaded["model"], preset="hubble/wikipedia", policy=policy
    )
    assert audit["preregistration"]["text_set_hmac_sha256"] is None
    with sessions.begin() as session:
        row = session.scalars(select(TextSet).where(TextSet.status == TextSetStatus.IMPORTING)).one()
        facts = {"hmac_sha256": "a" * 64, "text_count": 3}
        assert accept_text_set(session, row, facts) == 1
    registered = (await read(client, f"/v1/audits/{audit['id']}"))["preregistration"]
    assert registered == audit["preregistration"] | {"text_set_hmac_sha256": "a" * 64}
    with sessions() as session:
        planned = session.scalars(select(Job.created_at).where(Job.kind == "plan_audit")).one()
        assert planned.isoformat() > registered["registered_at"].replace("Z", "+00:00")


async def test_studies_and_edits_name_a_policy_too(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    sessions: Sessions,
    tenant_id: UUID,
    uploaded: JSON,
) -> None:
    with sessions.begin() as session:
        second = add_audit_rows(session, tenant_id)
        model = format_id(Prefix.LANGUAGE_MODEL, second.language_model_id)
    policy = await policy_of(client, RECITES_LITTLE)
    models = [{"model": each, "label": each[-4:]} for each in (uploaded["model"], model)]
    study = await made(
        client,
        "/v1/studies",
        name="s",
        kind="pair",
        text_set=uploaded["text_set"],
        models=models,
        policy=policy,
    )
    assert study["preregistration"]["policy"] == policy
    scopes = ("audit:read", "audit:write", "edit:read", "edit:write")
    async with client_of(app, make_key(settings, scopes=scopes)) as editor:
        edit = await made(
            editor,
            "/v1/edits",
            name="edited",
            model=model,
            method="svd",
            evaluation={"memorized_text_set": uploaded["text_set"]},
            policy=policy,
        )
        assert edit["preregistration"] == (await read(editor, f"/v1/edits/{edit['id']}"))["preregistration"]
        assert (edit["preregistration"]["policy"], edit["preregistration"]["text_set_hmac_sha256"]) == (
            policy,
            None,
        )
        assert "policy" not in edit["spec"]
        page = (await read(editor, f"/v1/gates?policy={policy}"))["data"]
    assert [gate["subject"]["kind"] for gate in page] == ["edit", "study"]
    assert all(gate["preregistered"] for gate in page)
