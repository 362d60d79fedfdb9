"""Every format of evidence of all kinds of work: given, the same again, verified, without a submitted text.

Formats are found as the service finds them, so that a new one is tested here too.
"""

import base64
import binascii
import html
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pypdf import PdfReader

from app.evidence.registry import FORMATS
from app.evidence.verification import verify
from app.signing.keys import from_json_web_key
from tests.acceptance.evidence_fixture import Evidence

PIECE = 20
# Runs of one sign, as under a heading, stand in many documents.
FEWEST_SIGNS = 8


def documents(evidence: Evidence, client: httpx.Client, **params: str) -> Iterator[tuple[str, str, bytes]]:
    """Every document that is listed as available: of what it is, its format, and its bytes."""
    for subject, path in evidence.subjects().items():
        for each in client.get(f"{path}/evidence").json()["data"]:
            assert each["available"], (subject, each)
            answer = client.get(f"{path}/evidence/{each['name']}", params=params)
            assert answer.status_code == 200, (subject, each, answer.text[:1000])
            yield subject, each["name"], answer.content


@pytest.fixture(scope="module")
def redacted(evidence: Evidence) -> list[tuple[str, str, bytes]]:
    return list(documents(evidence, evidence.service.client))


def readings(content: bytes) -> Iterator[str]:
    """A document as a reader may find text in it: as it is, unescaped, unpacked."""
    if content.startswith(b"%PDF"):
        for page in PdfReader(io.BytesIO(content)).pages:
            yield " ".join(page.extract_text().split())
        return
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from readings(archive.read(member))
        return
    text = content.decode("utf-8", "replace")
    yield from {text, html.unescape(text)}
    for document in {text, *text.splitlines()}:
        try:
            yield from strings(json.loads(document))
        except json.JSONDecodeError:
            continue


def strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value, keys too, and what stands in base64."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value
        try:
            yield from readings(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            return


def pieces(text: str) -> set[str]:
    found = {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}
    return {piece for piece in found if len(set(piece)) >= FEWEST_SIGNS}


def test_no_document_holds_a_piece_of_a_submitted_text(
    evidence: Evidence, redacted: list[tuple[str, str, bytes]]
) -> None:
    submitted = set().union(*map(pieces, evidence.submitted))
    assert len(submitted) > 1000
    for subject, name, content in redacted:
        for reading in readings(content):
            found = pieces(reading) & submitted
            assert not found, (subject, name, sorted(found)[:3])


def test_pieces_are_found_where_they_are(evidence: Evidence) -> None:
    """The search itself: plain, in JSON, in base64 within JSON, and escaped for HTML."""
    text = next(each for each in evidence.submitted if each.startswith("Marzipan"))
    encoded = base64.b64encode(json.dumps({"text": text}).encode()).decode()
    quoted = html.escape(f"<'{text}'>").encode()
    in_json = (json.dumps([text]).encode(), json.dumps({"payload": encoded}).encode())
    for content in (text.encode(), *in_json, quoted):
        assert any(pieces(reading) & pieces(text) for reading in readings(content))


def test_documents_are_the_same_again(evidence: Evidence, redacted: list[tuple[str, str, bytes]]) -> None:
    again = list(documents(evidence, evidence.service.client))
    assert [each[:2] for each in again] == [each[:2] for each in redacted]
    for (subject, name, content), (_, _, repeated) in zip(redacted, again, strict=True):
        assert content == repeated, (subject, name)


def test_texts_in_full_need_the_scope(evidence: Evidence) -> None:
    for path in evidence.subjects().values():
        for name in FORMATS:
            refused = evidence.service.client.get(f"{path}/evidence/{name}", params={"texts": "full"})
            assert (refused.status_code, refused.json()["status"]) == (403, 403)
            assert "audit:evidence" in refused.json()["detail"]
    assert len(list(documents(evidence, evidence.full, texts="full"))) > 0


def test_every_signed_document_is_verified_by_the_published_keys(
    evidence: Evidence, redacted: list[tuple[str, str, bytes]]
) -> None:
    published = httpx.get(f"{evidence.service.url}/.well-known/memaudit-keys.json").json()["keys"]
    keys = {key.key_id: key for key in map(from_json_web_key, published)}
    outcomes = {}
    for subject, name, content in redacted:
        if name != "in-toto":
            continue
        model = evidence.suite / ("standard" if subject == evidence.plain_audit else "perturbed")
        verification = verify(content, keys, model)
        assert verification.passed, [check for check in verification.checks if not check.passed]
        outcomes[subject] = verification.statement["predicate"]["result"]
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        assert not verify(bytes(damaged), keys).passed
    assert set(outcomes) == set(evidence.subjects())
    gate = evidence.service.client.get(f"/v1/gates/{evidence.gates['audit']}").json()
    expected = {"pass": "PASSED", "fail": "FAILED", "inconclusive": "WARNED"}
    assert outcomes[evidence.gates["audit"]] == expected[gate["outcome"]]
    assert outcomes[evidence.plain_audit] == "PASSED"


def test_subjects_are_the_files_that_were_audited(
    evidence: Evidence, redacted: list[tuple[str, str, bytes]]
) -> None:
    """The artifact's manifest and the text set's digest as the API shows them."""
    (content,) = [each for *document, each in redacted if document == [evidence.edit, "in-toto"]]
    statement = json.loads(base64.b64decode(json.loads(content)["payload"]))
    digests = {each["name"]: each["digest"] for each in statement["subject"]}
    subjects = {name: digest["sha256"] for name, digest in digests.items() if "sha256" in digest}
    assert len(digests) == len(statement["subject"])
    client = evidence.service.client
    edit = client.get(f"/v1/edits/{evidence.edit}").json()
    artifact = client.get(f"/v1/artifacts/{edit['artifact']}").json()
    assert subjects[f"artifact/{artifact['name']}"] == artifact["manifest_sha256"]
    weights = next(file for file in artifact["files"] if file["path"] == "model.safetensors")
    assert subjects["model.safetensors"] == weights["sha256"]
    base = client.get(f"/v1/models/{edit['model']}").json()
    assert subjects["base/model.safetensors"] == base["files"]["model.safetensors"]
    for role, identifier in edit["text_sets"].items():
        text_set = client.get(f"/v1/text-sets/{identifier}").json()
        assert digests[f"text-set/{role}"] == {"hmac_sha256": text_set["hmac_sha256"]}
