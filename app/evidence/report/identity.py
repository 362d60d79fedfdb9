"""What a report says so that others can check it: digests, and how to repeat the work."""

from collections.abc import Iterator
from typing import Final

import orjson

from app.edits.schemas import EditOut
from app.evidence.record import EvidenceRecord, RecordedFile
from app.evidence.report.account import Account
from app.evidence.report.document import Block, Bullets, Code, Heading, Paragraph, Table
from app.evidence.report.numbers import NOTHING, number

_FIELDS: Final = {"audit": "audits", "study": "studies", "edit": "edits", "gate": "gates"}


def digests(record: EvidenceRecord) -> Iterator[Block]:
    """Digests of all that the work rests on."""
    yield Paragraph(
        "All digests are SHA-256, in hexadecimal; those of texts are HMAC-SHA-256 under a key of their "
        "owner, so that nobody else can try texts against them."
    )
    yield _digest_table(
        "Language models", [(f"{each.label}: {each.name}", each.digest) for each in record.models]
    )
    for model in {each.id: each for each in record.models}.values():
        if model.files:
            yield _file_table(f"Files of {model.name}", model.files)
    yield _digest_table(
        "Text sets: the texts and their facts in order",
        [(f"{each.role}: {each.name}, {each.texts:,} texts", each.hmac_sha256) for each in record.text_sets],
    )
    if record.gates:
        policies = {
            (each.gate.policy_name, each.gate.policy_version): each.gate.policy_sha256
            for each in record.gates
        }
        yield _digest_table(
            "Policies",
            [(f"{name}, version {version}", digest) for (name, version), digest in policies.items()],
        )
    if record.artifact is not None:
        yield _digest_table(
            "Artifact", [(f"manifest of {record.artifact.name}", record.artifact.manifest_sha256)]
        )
        if record.artifact.files:
            yield _file_table(f"Files of the artifact {record.artifact.name}", record.artifact.files)


def _digest_table(caption: str, rows: list[tuple[str, str | None]]) -> Table:
    return Table(
        caption=caption,
        header=("what", "digest"),
        columns=("text", "code"),
        rows=tuple((name, digest or NOTHING) for name, digest in rows),
    )


def _file_table(caption: str, files: tuple[RecordedFile, ...]) -> Table:
    sized = any(file.size is not None for file in files)
    return Table(
        caption=caption,
        header=("file", *(["bytes"] if sized else []), "SHA-256"),
        columns=("code", *(["number"] if sized else []), "code"),  # type: ignore[arg-type]
        rows=tuple((file.path, *([number(file.size)] if sized else []), file.sha256) for file in files),
    )


def reproduction(record: EvidenceRecord, account: Account) -> Iterator[Block]:
    """The requests that repeat the work on this service, and what has to be the same elsewhere."""
    yield Paragraph(
        f"Made with memaudit {record.software}. On this service, where the language models and texts are "
        "known by their ids, save the request as request.json and send it; MEMAUDIT_URL is the service, "
        "MEMAUDIT_API_KEY a key."
    )
    yield Code(orjson.dumps(account.request, option=orjson.OPT_INDENT_2).decode())
    yield Code(_curl(account.path))
    for gate in (each.gate for each in record.gates if each.preregistration is None):
        yield Paragraph(f"Then the policy \u201c{gate.policy_name}\u201d, with the id of the answer for ID:")
        body = {"policy": gate.policy, gate.subject.kind: "ID"}
        yield Code(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
        yield Code(_curl("/v1/gates"))
    yield Paragraph("This report and the signed statement of the same numbers:")
    path = f"/v1/{_FIELDS[record.kind]}/{record.id}/evidence"
    yield Code("\n".join(f"{_get(f'{path}/{name}')} -O" for name in ("pdf", "in-toto")))
    yield Heading("What has to be the same")
    yield Bullets(tuple(_conditions(record)))


def _curl(path: str) -> str:
    return (
        f'curl -X POST "$MEMAUDIT_URL{path}" \\\n  -H "Authorization: Bearer $MEMAUDIT_API_KEY" \\\n'
        '  -H "Idempotency-Key: $(uuidgen)" \\\n  -H "Content-Type: application/json" -d @request.json'
    )


def _get(path: str) -> str:
    return f'curl -H "Authorization: Bearer $MEMAUDIT_API_KEY" "$MEMAUDIT_URL{path}"'


def _conditions(record: EvidenceRecord) -> Iterator[str]:
    yield "The files of the language models, and the texts with their facts and order: see the digests."
    for each in {each.id: each for each in record.text_sets}.values():
        if each.preset is not None:
            yield f"The text set {each.name} is preset {each.preset}, revision {each.revision or 'unknown'}."
        if each.erased:
            yield f"The texts of {each.name} were erased since; they have to be uploaded again."
    if isinstance(record.work, EditOut) and record.work.receipt is not None:
        code = record.work.receipt.code
        yield (
            f"The code: memaudit {code.memaudit}, PyTorch {code.torch}, transformers {code.transformers}; "
            f"seed {record.work.receipt.seed}."
        )
    yield (
        "On a CPU in float32 the same request gives the same numbers bit for bit; on a GPU, within the "
        "tolerance that its arithmetic has."
    )
