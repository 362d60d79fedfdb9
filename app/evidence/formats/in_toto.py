"""`in-toto`: a Statement v1 with the `test-result` predicate."""

from typing import Any, Final

import orjson

from app.evidence.format import EvidenceFormat
from app.evidence.record import EvidenceRecord

_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://in-toto.io/attestation/test-result/v0.1"


def render(record: EvidenceRecord) -> bytes:
    """The statement."""
    statement = {
        "_type": _STATEMENT,
        "subject": _subjects(record),
        "predicateType": _PREDICATE,
        "predicate": {"result": "PASSED"},
    }
    return orjson.dumps(statement)


def _subjects(record: EvidenceRecord) -> list[dict[str, Any]]:
    return [
        {"name": file.path, "digest": {"sha256": file.sha256}}
        for model in record.models
        for file in model.files
    ]


FORMAT = EvidenceFormat(
    name="in-toto",
    title="in-toto attestation",
    media_type="application/vnd.in-toto+json",
    suffix="intoto.json",
    render=render,
)
