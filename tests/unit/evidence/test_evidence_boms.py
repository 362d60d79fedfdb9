"""CycloneDX, Every Eval Ever and Inspect: each document as the other side's own schema or reader sees it."""

import hashlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from app.edits.schemas import EditOut
from app.errors import EvidenceFormatNotInstalled
from app.evidence import inspect_parts
from app.evidence.formats import inspect_log
from app.evidence.measurements import measurements
from app.evidence.record import EvidenceRecord, RecordedRow
from app.evidence.registry import FORMATS
from tests.drawing_child import RunApart, drawing_child
from tests.evidence_records import (
    SECRET,
    TEXTS,
    audit_record,
    document_of,
    edit_record,
    judged,
    public_id,
    study_record,
)

SCHEMAS = Path(__file__).parent / "schemas" / "every_eval_ever"
RECORDS: dict[str, Callable[..., EvidenceRecord]] = {
    "audit": audit_record,
    "study": study_record,
    "edit": edit_record,
}
STRICT = JsonStrictValidator(SchemaVersion.V1_6)
_children = ExitStack()


def schema(name: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads((SCHEMAS / name).read_text()))


AGGREGATE, SAMPLE = schema("eval.schema.json"), schema("instance_level_eval.schema.json")


@cache
def child() -> RunApart:
    """One for all logs of this module: it takes seconds to import what writes them."""
    return _children.enter_context(drawing_child())


@pytest.fixture(scope="module", autouse=True)
def _child_ends() -> Iterator[None]:
    with _children:
        yield


def rendered(record: EvidenceRecord, name: str) -> bytes:
    made = FORMATS[name]
    return document_of(made, record, child()) if made.finish else document_of(made, record)


@pytest.fixture(params=RECORDS)
def record(request: pytest.FixtureRequest) -> EvidenceRecord:
    return judged(RECORDS[request.param]())


def bom_of(record: EvidenceRecord) -> dict[str, Any]:
    return json.loads(rendered(record, "cyclonedx"))


def models_of(bom: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = [bom["metadata"]["component"], *bom["components"]]
    return {each["bom-ref"]: each for each in found if each["type"] == "machine-learning-model"}


def test_a_bill_of_materials_keeps_its_strict_schema(record: EvidenceRecord) -> None:
    assert STRICT.validate_str(rendered(record, "cyclonedx").decode()) is None


def test_the_strict_schema_is_asked() -> None:
    bom = bom_of(audit_record())
    del bom["metadata"]["component"]["name"]
    assert STRICT.validate_str(json.dumps(bom)) is not None


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["bom-ref"]] if "bom-ref" in value else [])
        for each in value.values():
            yield from refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from refs(each)


def test_references_within_a_bill_of_materials_are_unique_and_lead_somewhere(record: EvidenceRecord) -> None:
    bom = bom_of(record)
    there = list(refs(bom))
    assert len(there) == len(set(there))
    declared = bom["declarations"]
    pointed = {
        *(each["ref"] for each in bom["dependencies"]),
        *(ref for each in bom["dependencies"] for ref in each.get("dependsOn", ())),
        *(each["target"] for each in declared["claims"]),
        *(ref for each in declared["claims"] for ref in each.get("evidence", each.get("counterEvidence"))),
        *(each["assessor"] for each in declared["attestations"]),
        *(each["requirement"] for attested in declared["attestations"] for each in attested["map"]),
        *(
            ref
            for attested in declared["attestations"]
            for each in attested["map"]
            for ref in each.get("claims", each.get("counterClaims"))
        ),
    }
    assert pointed <= set(there)


def test_a_bill_of_materials_names_every_file_text_set_and_number(record: EvidenceRecord) -> None:
    bom = bom_of(record)
    models = models_of(bom)
    for model in record.models:
        files = {each["name"]: each["hashes"][0]["content"] for each in models[model.id]["components"]}
        assert files == {file.path: file.sha256 for file in model.files}
    data = {each["bom-ref"]: each for each in bom["components"] if each["type"] == "data"}
    assert {id_: each["version"] for id_, each in data.items()} == {
        each.id: each.hmac_sha256 for each in record.text_sets
    }
    metrics = [
        (model, metric["type"], float(metric["value"]))
        for model, component in models.items()
        for metric in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    ]
    assert sorted(metrics) == sorted((each.model, each.name, each.value) for each in measurements(record))


def test_an_edited_model_descends_from_its_base_and_from_what_it_was_made_with() -> None:
    bom = bom_of(edit_record())
    edited = bom["metadata"]["component"]
    assert edited["bom-ref"] == public_id("mdl", 2)
    assert [each["purl"] for each in edited["pedigree"]["ancestors"]] == [
        f"pkg:huggingface/acme/tiny-1@{1:040x}"
    ]
    assert {
        "ref": public_id("mdl", 2),
        "dependsOn": [public_id("mdl", 1), public_id("txs", 1), public_id("txs", 2)],
    } in (bom["dependencies"])


def test_rules_are_claims_with_what_backs_or_breaks_them() -> None:
    declared = bom_of(judged(audit_record()))["declarations"]
    found = [
        (each["conformance"].get("score"), "counterClaims" in each, each.get("confidence", {}).get("score"))
        for each in declared["attestations"][0]["map"]
    ]
    assert found == [(1.0, False, 0.95), (0.0, True, None), (None, False, 0.95)]
    summary = declared["attestations"][0]["summary"]
    assert "before the first score" in summary
    assert "e" * 64 in summary
    seen = json.loads(declared["evidence"][1]["data"][0]["contents"]["attachment"]["content"])
    assert seen["deciding_texts"] == ["text-1", "text-2"]


def test_limits_of_an_edit_are_a_standard_of_their_own() -> None:
    bom = bom_of(edit_record())
    (standard,) = bom["definitions"]["standards"]
    assert [each["identifier"] for each in standard["requirements"]] == [
        "max_perplexity_increase",
        "max_strict:memorized",
        "max_strict:unseen",
    ]
    scores = [each["conformance"].get("score") for each in bom["declarations"]["attestations"][0]["map"]]
    assert scores == [1.0, 0.0, None]


def test_a_bill_of_materials_without_rules_declares_nothing() -> None:
    assert not {"declarations", "definitions"} & set(bom_of(audit_record()))


def archive_of(record: EvidenceRecord) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(rendered(record, "every-eval-ever"))) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def pairs_of(record: EvidenceRecord) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each aggregate with the file of samples that it names."""
    files = archive_of(record)
    for name, content in files.items():
        if name.endswith(".json"):
            aggregate = json.loads(content)
            yield aggregate, files[aggregate["detailed_evaluation_results"]["file_path"]]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", RECORDS)
def test_aggregates_and_samples_keep_the_schema(kind: str, full: bool) -> None:
    pairs = list(pairs_of(judged(RECORDS[kind](full=full))))
    assert len(pairs) == (1 if kind == "audit" else 2)
    for aggregate, samples in pairs:
        AGGREGATE.validate(aggregate)
        for line in samples.splitlines():
            SAMPLE.validate(json.loads(line))


def test_the_schemas_are_asked() -> None:
    ((aggregate, samples),) = pairs_of(audit_record())
    del aggregate["evaluation_results"][0]["metric_config"]["lower_is_better"]
    sample = json.loads(samples.splitlines()[0])
    del sample["output"]
    assert not AGGREGATE.is_valid(aggregate)
    assert not SAMPLE.is_valid(sample)


def test_samples_belong_to_their_aggregate(record: EvidenceRecord) -> None:
    for aggregate, samples in pairs_of(record):
        details = aggregate["detailed_evaluation_results"]
        lines = [json.loads(line) for line in samples.splitlines()]
        assert details["checksum"] == hashlib.sha256(samples).hexdigest()
        assert details["total_rows"] == len(lines)
        assert {line["evaluation_id"] for line in lines} == {aggregate["evaluation_id"]}
        assert {line["model_id"] for line in lines} == {aggregate["model_info"]["id"]}
        results = [each["evaluation_result_id"] for each in aggregate["evaluation_results"]]
        assert len(results) == len(set(results))
        assert {line["evaluation_result_id"] for line in lines} <= set(results)


def test_samples_hold_every_scored_text_and_count_the_others() -> None:
    ((aggregate, samples),) = pairs_of(audit_record())
    lines = [json.loads(line) for line in samples.splitlines()]
    by_name = {
        name: [line["evaluation"] for line in lines if line["evaluation_name"] == f"{name} (all texts)"]
        for name in ("nl", "strict", "loose")
    }
    assert [each["score"] for each in by_name["nl"]] == [-2.0, -3.0, -4.0]
    assert [each["is_correct"] for each in by_name["strict"]] == [True, False, False]
    assert [each["is_correct"] for each in by_name["loose"]] == [True, False, True]
    assert aggregate["detailed_evaluation_results"]["additional_details"]["texts_not_scored"] == "1"


def test_a_checkpoint_with_an_odd_name_gets_a_portable_path() -> None:
    record = audit_record()
    for name, folder in (("étude: 7B*", "tude-7B"), ("data", "data_"), ("…", "unnamed")):
        odd = replace(record.models[0], name=name, source="path", revision=None)
        names = list(archive_of(replace(record, models=(odd,))))
        assert all(each.startswith(f"data/memaudit/path/{folder}/") for each in names), names


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of each kind of work, as a reader of Inspect has them."""
    folder = tmp_path_factory.mktemp("logs")
    for kind, make in RECORDS.items():
        record = judged(make())
        (folder / f"{inspect_log.FORMAT.stem(record)}-{kind}.json").write_bytes(rendered(record, "inspect"))
    return folder


@pytest.fixture(scope="module")
def read_logs(logs: Path) -> dict[str, Any]:
    """What `inspect_ai` makes of them, in a process of its own: it changes the loop and the warnings."""
    program = (
        "import sys, orjson\n"
        "from inspect_ai.log import list_eval_logs, read_eval_log\n"
        "logs = [read_eval_log(info) for info in list_eval_logs(sys.argv[1])]\n"
        "sys.stdout.buffer.write(orjson.dumps({log.eval.task: log.model_dump(mode='json') for log in logs}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(logs)], capture_output=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_inspect_lists_and_reads_a_log_of_each_kind(read_logs: dict[str, Any]) -> None:
    assert set(read_logs) == {f"memaudit_{kind}" for kind in RECORDS}
    for log in read_logs.values():
        assert log["status"] == "success"
        assert len(log["samples"]) == log["results"]["total_samples"]
        assert log["eval"]["metadata"]["gates"][0]["outcome"] == "fail"
    assert len(read_logs["memaudit_audit"]["samples"]) == TEXTS
    assert len(read_logs["memaudit_edit"]["samples"]) == 2 * TEXTS


def test_a_log_has_the_numbers_of_the_record(read_logs: dict[str, Any]) -> None:
    for kind, make in RECORDS.items():
        found = [
            (each["name"], each["metadata"]["model"], each["metrics"]["value"]["value"])
            for each in read_logs[f"memaudit_{kind}"]["results"]["scores"]
        ]
        wanted = [(each.name, each.model, each.value) for each in measurements(make()) if each.overall]
        assert found == wanted


def test_the_questions_of_a_task_are_a_number_of_either_model() -> None:
    """Identity: the evaluation of the edit. More right answers are better."""
    record = edit_record()
    found = [each for each in measurements(record) if each.name == "task_accuracy"]
    assert isinstance(record.resource, EditOut)
    assert record.resource.evaluation is not None
    assert record.resource.evaluation.tasks is not None
    (task,) = record.resource.evaluation.tasks
    assert [(each.model, each.group, each.value, each.low, each.high, each.n) for each in found] == [
        (model, "sums", share.share, share.low, share.high, 4)
        for model, share in (
            (record.resource.model, task.before),
            (record.resource.edited_model, task.after),
        )
    ]
    lower_is_better = {
        result["metric_config"]["lower_is_better"]
        for aggregate, _ in pairs_of(record)
        for result in aggregate["evaluation_results"]
        if result["metric_config"]["metric_name"] == "task_accuracy"
    }
    assert lower_is_better == {False}


def test_a_text_has_the_scores_of_all_models_beside_each_other(read_logs: dict[str, Any]) -> None:
    first = read_logs["memaudit_study"]["samples"][0]["scores"]
    assert {label: score["value"]["nl"] for label, score in first.items()} == {
        "standard": -2.0,
        "perturbed": -2.0,
    }
    assert first["standard"]["value"]["strict"] is True
    edited = {sample["id"]: sample for sample in read_logs["memaudit_edit"]["samples"]}
    assert set(edited["clean/text-1"]["scores"]) == {"clean/before", "clean/after"}
    unscored = read_logs["memaudit_audit"]["samples"][3]["scores"]["audited"]
    assert unscored["value"] == {}
    assert unscored["explanation"] == "The text could not be scored: no_tokens."


def test_without_inspect_the_answer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_parts, "find_spec", lambda _name: None)
    with pytest.raises(EvidenceFormatNotInstalled, match=r"pip install 'memaudit\[inspect\]'"):
        inspect_log.render(audit_record())


def test_a_text_that_inspect_does_not_take_breaks_off_the_log_without_telling_it() -> None:
    with pytest.raises(RuntimeError) as raised:
        child()(inspect_parts.write, inspect_parts.Samples([{"id": SECRET}], first=True))
    assert str(raised.value) == "ValidationError"


@pytest.mark.parametrize("name", ["every-eval-ever", "inspect"])
def test_a_document_is_given_while_its_texts_are_read(name: str) -> None:
    texts = 2000
    record = audit_record(texts)
    read = 0

    def counted(audit_id: str) -> Iterator[RecordedRow]:
        nonlocal read
        for row in record.rows(audit_id):
            read += 1
            yield row

    document = FORMATS[name].render(replace(record, rows=counted))
    assert not isinstance(document, bytes)
    given = [(read, len(piece if isinstance(piece, bytes) else pickle.dumps(piece))) for piece in document]
    assert read == texts
    assert max(size for _, size in given) < 2**18
    assert given[0][0] < texts / 4


@pytest.mark.parametrize("name", ["cyclonedx", "every-eval-ever"])
def test_documents_hold_texts_only_where_the_record_does_and_are_the_same_each_time(name: str) -> None:
    for make in RECORDS.values():
        document = rendered(make(), name)
        assert document == rendered(make(), name)
        if name == "every-eval-ever":
            contents = b"".join(archive_of(make(full=True)).values())
            assert SECRET.encode() in contents
            document = b"".join(archive_of(make()).values())
        assert SECRET.encode() not in document
        assert b" opens " not in document


def test_a_log_holds_texts_only_where_the_record_does_and_is_the_same_each_time(logs: Path) -> None:
    (audit,) = logs.glob("*-audit.json")
    assert SECRET.encode() not in audit.read_bytes()
    assert audit.read_bytes() == rendered(judged(audit_record()), "inspect")
    sample = json.loads(rendered(audit_record(full=True), "inspect"))["samples"][0]
    assert (sample["input"], sample["target"]) == (SECRET, " 0")
