"""OSCAL, JUnit and model cards of a trained pair, read by what others have written for them."""

from huggingface_hub import ModelCard
from lxml import etree
from trestle.oscal.assessment_results import Model

from tests.acceptance.evidence_fixture import Evidence
from tests.unit.evidence.test_compliance_formats import SCHEMA


def document(evidence: Evidence, path: str, name: str) -> bytes:
    response = evidence.service.client.get(f"{path}/evidence/{name}")
    assert response.status_code == 200, response.text
    return response.content


def judged_work(evidence: Evidence) -> dict[str, str]:
    """The addresses of the audit, the study and the edit that have a gate, by their kind."""
    found = {"audit": evidence.audit, "study": evidence.study, "edit": evidence.edit}
    return {kind: evidence.subjects()[identifier] for kind, identifier in found.items()}


def outcomes(evidence: Evidence, kind: str) -> list[str]:
    """Of each rule of the gate on some work, and of each limit of an edit."""
    client = evidence.service.client
    gate = client.get(f"/v1/gates/{evidence.gates[kind]}").json()
    found = [rule["outcome"] for rule in gate["rules"]]
    if kind == "edit":
        edit = client.get(judged_work(evidence)[kind]).json()
        found += [check["outcome"] for check in edit["evaluation"]["verdict"]["checks"]]
    return found


def test_trestle_reads_a_finding_for_each_rule(evidence: Evidence) -> None:
    for kind, path in judged_work(evidence).items():
        result = Model.model_validate_json(document(evidence, path, "oscal")).assessment_results.results[0]
        assert result.observations
        states = [finding.target.status.state.value for finding in result.findings]
        expected = outcomes(evidence, kind)
        assert states == ["satisfied" if each == "pass" else "not-satisfied" for each in expected]


def test_reports_keep_the_schema_and_pass_no_rule_that_is_open(evidence: Evidence) -> None:
    for kind, path in judged_work(evidence).items():
        tree = etree.fromstring(document(evidence, path, "junit"))
        SCHEMA.assertValid(tree)
        told = [
            "fail" if case.find("failure") is not None else "inconclusive" if len(case) else "pass"
            for case in tree.iter("testcase")
        ]
        assert told == outcomes(evidence, kind)


def test_the_hub_reads_the_numbers_of_an_audit_in_its_section(evidence: Evidence) -> None:
    audit = evidence.service.client.get(f"/v1/audits/{evidence.audit}").json()
    card = ModelCard(document(evidence, f"/v1/audits/{evidence.audit}", "model-card").decode())
    numbers = {(each.metric_type, each.metric_value) for each in card.data.eval_results}
    assert ("nl", audit["summary"]["nl"]["mean"]) in numbers
    assert ("strict", audit["summary"]["strict"]["share"]) in numbers
