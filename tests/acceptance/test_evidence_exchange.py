"""Bills of materials, records and logs of a trained pair: other tools read what the service measured."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.acceptance.evidence_fixture import Evidence

SCHEMAS = Path(__file__).parents[1] / "unit" / "evidence" / "schemas" / "every_eval_ever"


def get(evidence: Evidence, path: str, name: str) -> httpx.Response:
    response = evidence.service.client.get(f"{path}/evidence/{name}")
    assert response.status_code == 200, response.text
    return response


def scores(evidence: Evidence, audit: str) -> list[dict[str, Any]]:
    answer = evidence.service.client.get(
        f"/v1/audits/{audit}/scores", headers={"Accept": "application/jsonl"}
    )
    return [json.loads(line) for line in answer.text.splitlines()]


def without_texts(document: bytes, evidence: Evidence) -> bool:
    return not any(json.dumps(text)[1:41].encode() in document for text in evidence.submitted)


def test_every_bill_of_materials_keeps_its_schema(evidence: Evidence) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for path in evidence.subjects().values():
        document = get(evidence, path, "cyclonedx").text
        assert validator.validate_str(document) is None
        assert without_texts(document.encode(), evidence)


def test_a_bill_of_materials_of_an_edit_has_its_lineage_files_and_limits(evidence: Evidence) -> None:
    path = f"/v1/edits/{evidence.edit}"
    edit = evidence.service.client.get(path).json()
    artifact = evidence.service.client.get(f"/v1/artifacts/{edit['artifact']}").json()
    bom = get(evidence, path, "cyclonedx").json()
    edited = bom["metadata"]["component"]
    assert edited["bom-ref"] == edit["edited_model"]
    files = {each["name"]: each["hashes"][0]["content"] for each in edited["components"]}
    assert files.items() <= {each["path"]: each["sha256"] for each in artifact["files"]}.items()
    assert "model.safetensors" in files
    ancestors = edited["pedigree"]["ancestors"]
    assert [each["properties"][0]["value"] for each in ancestors] == [edit["model"]]
    (gate, limits) = (each["bom-ref"] for each in bom["definitions"]["standards"])
    assert (gate, limits) == (evidence.gates["edit"], f"{evidence.edit}/limits")


def test_records_keep_their_schema_and_hold_every_scored_text(evidence: Evidence) -> None:
    aggregates = jsonschema.Draft7Validator(json.loads((SCHEMAS / "eval.schema.json").read_text()))
    instances = jsonschema.Draft7Validator(
        json.loads((SCHEMAS / "instance_level_eval.schema.json").read_text())
    )
    for path in evidence.subjects().values():
        archive = zipfile.ZipFile(io.BytesIO(get(evidence, path, "every-eval-ever").content))
        for name in archive.namelist():
            content = archive.read(name)
            assert without_texts(content, evidence)
            if name.endswith(".json"):
                aggregates.validate(json.loads(content))
            else:
                lines = [json.loads(line) for line in content.splitlines()]
                for line in lines[:: max(1, len(lines) // 20)]:
                    instances.validate(line)
    archive = zipfile.ZipFile(
        io.BytesIO(get(evidence, f"/v1/audits/{evidence.audit}", "every-eval-ever").content)
    )
    samples = next(archive.read(name) for name in archive.namelist() if name.endswith(".jsonl"))
    found = {
        line["sample_id"]: line["evaluation"]["score"]
        for line in map(json.loads, samples.splitlines())
        if line["evaluation_name"] == "nl (all texts)"
    }
    assert found == {row["text_id"]: row["nl"] for row in scores(evidence, evidence.audit)}


def test_inspect_reads_every_log_with_the_scores_of_the_service(evidence: Evidence, tmp_path: Path) -> None:
    for path in evidence.subjects().values():
        response = get(evidence, path, "inspect")
        assert without_texts(response.content, evidence)
        name = response.headers["content-disposition"].partition('filename="')[2].rstrip('"')
        (tmp_path / name).write_bytes(response.content)
    program = (
        "import sys, orjson\n"
        "from inspect_ai.log import list_eval_logs, read_eval_log\n"
        "logs = [read_eval_log(info) for info in list_eval_logs(sys.argv[1])]\n"
        "found = {log.eval.run_id: log.model_dump(mode='json') for log in logs}\n"
        "sys.stdout.buffer.write(orjson.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True, timeout=120
    )
    logs = json.loads(done.stdout)
    assert set(logs) == set(evidence.subjects())
    rows = scores(evidence, evidence.audit)
    samples = logs[evidence.audit]["samples"]
    assert [each["id"] for each in samples] == [row["text_id"] for row in rows]
    assert [each["scores"]["audited"]["value"]["nl"] for each in samples] == [row["nl"] for row in rows]
    studied = logs[evidence.study]["samples"]
    assert {tuple(each["scores"]) for each in studied} == {("standard", "perturbed")}
    assert len(studied) == len(rows)
