"""OSCAL by trestle's models, JUnit by Jenkins' schema, model cards by the Hub's own reader."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from huggingface_hub import ModelCard
from lxml import etree
from pydantic import ValidationError
from trestle.oscal.assessment_results import Model

from app.edits.schemas import EditOut
from app.evidence.controls import ControlMappings, read_control_mappings
from app.evidence.formats import junit, model_card, oscal
from app.evidence.measurements import measurements
from app.evidence.record import EvidenceRecord
from tests.evidence_records import SECRET, audit_record, edit_record, judged, study_record

SCHEMA = etree.XMLSchema(file=Path(__file__).parent / "schemas" / "junit.xsd")
RECORDS: dict[str, Callable[..., EvidenceRecord]] = {
    "audit": audit_record,
    "study": study_record,
    "edit": edit_record,
}


@pytest.fixture(params=RECORDS)
def record(request: pytest.FixtureRequest) -> EvidenceRecord:
    return RECORDS[request.param]()


def read_oscal(record: EvidenceRecord) -> Any:
    """As trestle reads it, which checks every field against NIST's model."""
    return Model.model_validate_json(oscal.render(record)).assessment_results.results[0]


def read_junit(record: EvidenceRecord) -> Any:
    tree = etree.fromstring(junit.render(record))
    SCHEMA.assertValid(tree)
    return tree


def read_card(record: EvidenceRecord) -> ModelCard:
    return ModelCard(model_card.render(record).decode())


def test_each_metric_and_group_is_an_observation_with_every_number(record: EvidenceRecord) -> None:
    found = list(measurements(record))
    observations = read_oscal(record).observations

    assert {each.title for each in observations} == {
        f"{each.name} of {'all texts' if each.group is None else 'the group ' + each.group}" for each in found
    }
    values = [
        float(told.value)
        for each in observations
        for evidence in each.relevant_evidence
        for told in evidence.props
        if told.name == "value"
    ]
    assert sorted(values) == sorted(each.value for each in found)


def test_each_rule_is_a_finding_and_only_a_pass_is_satisfied(record: EvidenceRecord) -> None:
    result = read_oscal(judged(record))

    states = [finding.target.status.state.value for finding in result.findings]
    assert states[:3] == ["satisfied", "not-satisfied", "not-satisfied"]
    # An edit has limits of its own, of which one is kept.
    assert states[3:] in ([], ["satisfied", "not-satisfied", "not-satisfied"])
    assert all("mapping" in finding.target.status.remarks for finding in result.findings)
    reviewed = {
        control.control_id
        for selection in result.reviewed_controls.control_selections
        for control in selection.include_controls
    }
    mapped = {told.value for finding in result.findings for told in finding.target.props}
    assert mapped <= reviewed
    assert (read_oscal(record).findings is None) is not isinstance(record.work, EditOut)


def test_an_operator_maps_rules_to_other_controls(tmp_path: Path) -> None:
    path = tmp_path / "mappings.json"
    framework = {"id": "house", "title": "House rules", "controls": [{"id": "r.1", "title": "Recite not"}]}
    path.write_bytes(orjson.dumps({"frameworks": [framework], "rules": {"rate": ["house_r.1"]}}))
    mapped = replace(judged(audit_record()), controls=read_control_mappings(path))

    assert {finding.target.target_id for finding in read_oscal(mapped).findings} == {"house_r.1"}


def test_a_mapping_to_an_unknown_control_is_refused(tmp_path: Path) -> None:
    frameworks = [{"id": "house", "title": "House", "controls": [{"id": "r.1", "title": "Recite not"}]}]
    with pytest.raises(ValidationError, match="no framework has"):
        ControlMappings.model_validate({"frameworks": frameworks, "rules": {"rate": ["house_r.2"]}})
    path = tmp_path / "mappings.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="MEMAUDIT_CONTROL_MAPPINGS"):
        read_control_mappings(path)


def test_each_rule_is_a_test_case_and_what_is_open_is_an_error(record: EvidenceRecord) -> None:
    tree = read_junit(judged(record))

    suites = 2 if isinstance(record.work, EditOut) else 1  # an edit has limits of its own
    counts = {name: int(tree.get(name)) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": 3 * suites, "failures": suites, "errors": suites}
    passed, failed, open_ = list(tree.iter("testcase"))[:3]
    assert [len(case) for case in (passed, failed, open_)] == [0, 1, 1]
    assert "text-1 text-2" in failed.findtext("failure")
    assert open_.find("error").get("type") == "too_few_texts"


@pytest.mark.parametrize("make", [audit_record, study_record])
def test_work_without_a_rule_says_whether_all_texts_were_scored(make: Callable[..., EvidenceRecord]) -> None:
    record = make()
    tree = read_junit(record)
    cases = list(tree.iter("testcase"))
    assert len(cases) == len(record.principal_audits)
    # Of the four texts of these audits one could not be scored.
    assert tree.get("errors") == str(len(cases))


def test_what_a_client_wrote_cannot_break_the_report() -> None:
    record = judged(audit_record())
    gate = record.gates[0]
    hostile = gate.policy.model_copy(update={"name": "]]><x>\x01\x0b & \ud800"})
    tree = read_junit(replace(record, gates=(replace(gate, policy=hostile),)))
    assert tree.find("testsuite").get("name").startswith("]]><x>")


def test_the_hub_reads_every_overall_number_of_the_model(record: EvidenceRecord) -> None:
    data = read_card(record).data
    model = record.models[-1]
    overall = [
        (each.name, each.value) for each in measurements(record) if each.overall and each.model == model.id
    ]

    assert data.model_name == model.name
    assert sorted((each.metric_type, each.metric_value) for each in data.eval_results) == sorted(overall)


def test_the_section_tells_outcomes_and_limits_of_the_method(record: EvidenceRecord) -> None:
    text = read_card(judged(record)).text
    assert "rule 1: rate | pass |" in text
    assert "rule 3: rate | inconclusive |" in text
    assert "no recital anywhere v2" in text
    assert "do not prove" in text


@pytest.mark.parametrize("render", [oscal.render, junit.render, model_card.render])
def test_no_text_is_in_it_and_its_bytes_are_the_same_each_time(
    record: EvidenceRecord, render: Callable[[EvidenceRecord], bytes]
) -> None:
    document = render(judged(record))
    assert SECRET.encode() not in document
    assert document == render(judged(record))
