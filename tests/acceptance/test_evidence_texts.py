"""No document of evidence holds a submitted text, unless its scope and its request allow it."""

import base64
import json
from collections.abc import Iterator

from app.evidence.registry import FORMATS
from tests.acceptance.evidence_fixture import Evidence

PIECE = 20


def pieces(text: str, length: int = PIECE) -> Iterator[str]:
    return (text[start : start + length] for start in range(len(text) - length + 1))


def test_z(evidence: Evidence) -> None:
    for subject, path in evidence.subjects().items():
        listed = evidence.service.client.get(f"{path}/evidence")
        print(subject, listed.json())
        for name in FORMATS:
            answer = evidence.service.client.get(f"{path}/evidence/{name}")
            print(answer.status_code, len(answer.content))
            payload = json.loads(base64.b64decode(answer.json()["payload"]))
            print(json.dumps(payload)[:3000])
    print(len(evidence.submitted))
