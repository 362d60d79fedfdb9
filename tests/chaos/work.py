"""The mixed load: each script asks for some work, follows it to its end and gives all numbers that it found.

A script gives the same numbers in every run: whatever differs by its nature (ids, times, names) is left out.
"""

import csv
import hashlib
import io
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.client import JSON, Client, Refused
from tests.chaos.inputs import Inputs
from tests.edit_requests import SPLIT

# Of every run its own: ids, times, digests of what holds them, names that may be given once.
_OF_THE_RUN: Final = re.compile(r"[a-z]{3}_[0-9a-f-]{32,36}|\d{4}-\d\d-\d\dT.*")
_MEASURED: Final = {
    "wall_seconds",
    "peak_memory_bytes",
    "model_repo",
    "created_at",
    "audits",
    "sha256",
    "hmac_sha256",
}
_FILES_COMPARED: Final = (".safetensors",)
SPLIT_OPTIONS: Final = {"prefix_tokens": 16, "suffix_tokens": 8}


class Failed(Exception):
    """Work did not succeed; `problem` is the type of its problem, or `cancelled`."""

    def __init__(self, work: JSON) -> None:
        error = work.get("error") or {"type": work["status"], "detail": ""}
        self.problem = str(error["type"]).rpartition("/")[2]
        # A language model is rejected by whatever ends its validation; the status says whose fault that was.
        self.of_attempts = error.get("status") == 500 and " attempts at a " in error["detail"]
        super().__init__(f"{work['object']} {work['id']} {work['status']}: {self.problem}: {error['detail']}")


@dataclass(frozen=True)
class Script:
    """A piece of the load; `weight` says how often it is chosen."""

    name: str
    run: Callable[[Client, Inputs], Any]
    weight: int = 1


def stable(value: Any) -> Any:
    """A document without what is of one run only."""
    if isinstance(value, dict):
        return {key: stable(each) for key, each in value.items() if key not in _MEASURED}
    if isinstance(value, list):
        return [stable(each) for each in value]
    if isinstance(value, str):
        return _OF_THE_RUN.sub("…", value)
    return value


def succeeded(work: JSON) -> JSON:
    """Work that has succeeded.

    Raises:
        Failed: it has not.
    """
    if work["status"] not in {"succeeded", "ready"}:
        raise Failed(work)
    return work


def upload(client: Client, texts: list[JSON]) -> str:
    return str(client.create("/v1/text-sets", {"name": "chaos", "texts": texts})["id"])


def register(client: Client, path: Any) -> str:
    model = client.create("/v1/models", {"source": {"type": "path", "path": str(path)}})
    return str(succeeded(client.end_of(f"/v1/models/{model['id']}"))["id"])


def ended_audit(client: Client, **body: Any) -> JSON:
    audit = client.create("/v1/audits", {"options": SPLIT_OPTIONS, **body})
    return succeeded(client.end_of(f"/v1/audits/{audit['id']}"))


def numbers_of_audit(client: Client, audit: JSON) -> JSON:
    """Every row and the summary of an audit."""
    rows = client.pages(f"/v1/audits/{audit['id']}/scores")
    if [row["ordinal"] for row in rows] != list(range(audit["progress"]["total"])):
        client.record.violate(f"rows of {audit['id']} are missing or doubled")
    return {"rows": stable(rows), "summary": stable(audit["summary"]), "progress": audit["progress"]}


def plain_audit(client: Client, inputs: Inputs) -> Any:
    """An audit of everything that one forward pass gives; its model is an inline source, validated first."""
    source = {"type": "path", "path": str(inputs.plain)}
    metrics = ["nl", "extraction", "verbatim", "p_z", "membership"]
    audit = ended_audit(client, model=source, text_set=upload(client, inputs.texts(0)), metrics=metrics)
    return numbers_of_audit(client, audit)


def controlled_audit(client: Client, inputs: Inputs) -> Any:
    """An audit with controls and a reference model: four audits that wait for each other."""
    audit = ended_audit(
        client,
        model=register(client, inputs.reciting),
        reference_model=register(client, inputs.plain),
        text_set=upload(client, inputs.texts(0, 60)),
        control_text_set=upload(client, inputs.texts(500, 80)),
        metrics=["nl", "extraction", "membership"],
    )
    return numbers_of_audit(client, audit)


def derived_audit(client: Client, inputs: Inputs) -> Any:
    """An audit, and one that follows from its evidence without the model."""
    model, text_set = register(client, inputs.plain), upload(client, inputs.texts(200))
    first = ended_audit(client, model=model, text_set=text_set, metrics=["nl", "p_z"])
    second = ended_audit(client, model=model, text_set=text_set, metrics=["nl"])
    return [numbers_of_audit(client, audit) for audit in (first, second)]


def exported_audit(client: Client, inputs: Inputs) -> Any:
    """The rows of an audit in every form in which they are streamed."""
    model, text_set = register(client, inputs.plain), upload(client, inputs.texts(300))
    audit = ended_audit(client, model=model, text_set=text_set, metrics=["nl"])
    path = f"/v1/audits/{audit['id']}"
    lines = client.send("GET", f"{path}/scores", headers={"Accept": "application/jsonl"}).text.splitlines()
    table = client.send("GET", f"{path}/scores", headers={"Accept": "text/csv"}).text
    evidence = [client.get(f"{path}/scores/{place}/tokens") for place in ("t0", "t7")]
    parsed = list(csv.DictReader(io.StringIO(table)))
    if not len(lines) == len(parsed) == audit["progress"]["total"]:
        client.record.violate(f"an export of {audit['id']} is cut off")
    return {
        "lines": [stable(json.loads(line)) for line in lines],
        "table": parsed,
        "evidence": stable(evidence),
    }


def pair_study(client: Client, inputs: Inputs) -> Any:
    """A study of a minimal pair."""
    models = [
        {"model": register(client, path), "label": path.name} for path in (inputs.plain, inputs.reciting)
    ]
    body = {
        "name": "chaos",
        "kind": "pair",
        "text_set": upload(client, inputs.texts(0, 60)),
        "models": models,
        "metrics": ["nl", "extraction"],
        "options": SPLIT_OPTIONS,
    }
    study = client.create("/v1/studies", body)
    study = succeeded(client.end_of(f"/v1/studies/{study['id']}"))
    return {"result": stable(study["result"]), "progress": study["progress"]}


def gated_audit(client: Client, inputs: Inputs) -> Any:
    """A gate that is asked for before its audit has ended, which must decide by all of its rows."""
    rules = [{"kind": "rate", "metric": "strict", "at_most": 0.1}]
    policy = client.create("/v1/policies", {"name": "chaos", "rules": rules})
    audit = client.create(
        "/v1/audits",
        {
            "model": {"type": "path", "path": str(inputs.reciting)},
            "text_set": upload(client, inputs.texts(0, 60)),
            "metrics": ["nl", "extraction"],
            "options": SPLIT_OPTIONS,
        },
    )
    gate = client.create("/v1/gates", {"policy": policy["id"], "audit": audit["id"]})
    gate = succeeded(client.end_of(f"/v1/gates/{gate['id']}"))
    evidence = client.send("GET", f"/v1/audits/{audit['id']}/evidence/junit")
    return {"outcome": gate["outcome"], "rules": stable(gate["rules"]), "evidence": evidence.status_code}


def edit(client: Client, inputs: Inputs, **fields: Any) -> Any:
    """An edit, its proof, and every byte of its artifact."""
    sentences = [text["text"] for text in inputs.texts(0, 400)]

    def some(first: int, count: int) -> str:
        return upload(client, [{"text": text[:200]} for text in sentences[first : first + count]])

    sets = {"memorized_text_set": some(0, 6), "unseen_text_set": some(6, 6), "clean_text_set": some(200, 12)}
    body = {
        "model": register(client, inputs.reciting),
        "name": f"chaos-{uuid.UUID(int=client.random.getrandbits(128)).hex}",
        "layers": [0, 1],
        "evaluation": {**sets, **SPLIT},
        **fields,
    }
    made = client.create("/v1/edits", body)
    made = succeeded(client.end_of(f"/v1/edits/{made['id']}"))
    return {
        "weights": whole_artifact(client, made["artifact"]),
        "evaluation": stable(made["evaluation"]),
        "matrices": stable(made["receipt"]["matrices"]),
        "edited": client.get(f"/v1/models/{made['edited_model']}")["status"],
    }


def svd_edit(client: Client, inputs: Inputs) -> Any:
    return edit(client, inputs, method="svd", rank_ratio={"gate": 0.5, "up": 0.3, "down": 0.3})


def kfac_edit(client: Client, inputs: Inputs) -> Any:
    texts = [{"text": text["text"][:200]} for text in inputs.texts(300, 40)]
    return edit(client, inputs, method="kfac", block_tokens=64, calibration_text_set=upload(client, texts))


def whole_artifact(client: Client, artifact_id: str) -> list[str]:
    """The digests of an artifact's weights; each of its files must be what its manifest says."""
    manifest = client.get(f"/v1/artifacts/{artifact_id}")
    for file in manifest["files"]:
        sent = client.send("GET", f"/v1/artifacts/{artifact_id}/files/{file['path']}").content
        if (len(sent), hashlib.sha256(sent).hexdigest()) != (file["size"], file["sha256"]):
            client.record.violate(f"{file['path']} of {artifact_id} is not what its manifest says")
        client.record.count("files of artifacts read and digested")
    return [file["sha256"] for file in manifest["files"] if file["path"].endswith(_FILES_COMPARED)]


def scored_at_once(client: Client, inputs: Inputs) -> Any:
    """A few texts that are scored while the client waits, or after it has."""
    texts = [{"text": text["text"]} for text in inputs.texts(100, 8)]
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = {"model": {"type": "path", "path": str(inputs.plain)}, "texts": texts, "timeout": 5}
    answer = client.send("POST", "/v1/score", json=body, headers=key)
    if answer.status_code == 202:
        audit = succeeded(client.end_of(f"/v1/audits/{answer.json()['id']}"))
        return stable(client.pages(f"/v1/audits/{audit['id']}/scores"))
    return stable(answer.json()["data"])


def erased_texts(client: Client, inputs: Inputs) -> Any:
    """A text set that is read and erased: gone for good, with a receipt, while its scores stay."""
    text_set = upload(client, inputs.texts(50, 30))
    read = client.pages(f"/v1/text-sets/{text_set}/texts")
    audit = ended_audit(client, model=register(client, inputs.plain), text_set=text_set, metrics=["nl"])
    before = numbers_of_audit(client, audit)
    try:
        receipt = client.send("DELETE", f"/v1/text-sets/{text_set}").json()
        if receipt["text_count"] != len(read):
            client.record.violate(f"the receipt of {text_set} counts {receipt['text_count']} texts")
    except Refused as refused:
        # Erased by a request whose answer was lost.
        if refused.problem != "not-found":
            raise
    for path in (f"/v1/text-sets/{text_set}", f"/v1/text-sets/{text_set}/texts"):
        try:
            client.get(path)
            client.record.violate(f"{path} is there after it was erased")
        except Refused as refused:
            if refused.status != 404:
                raise
    return {
        "texts": [stable(text) for text in read],
        "audit": before,
        "after": numbers_of_audit(client, audit),
    }


def cancelled_audit(client: Client, inputs: Inputs) -> Any:
    """An audit that is cancelled at some moment: it is, or it had ended before."""
    audit = client.create(
        "/v1/audits",
        {
            "model": register(client, inputs.plain),
            "text_set": upload(client, inputs.texts(0)),
            "metrics": ["nl"],
        },
    )
    time.sleep(client.random.uniform(0, 3))
    return cancelled(client, f"/v1/audits/{audit['id']}")


def cancelled_study(client: Client, inputs: Inputs) -> Any:
    """A study that is cancelled, and with it the audits that were made for it."""
    models = [
        {"model": register(client, path), "label": path.name} for path in (inputs.plain, inputs.reciting)
    ]
    text_set = upload(client, inputs.texts(0, 60))
    body = {"name": "chaos", "kind": "pair", "text_set": text_set, "models": models, "metrics": ["nl"]}
    study = client.create("/v1/studies", body)
    time.sleep(client.random.uniform(0, 3))
    return cancelled(client, f"/v1/studies/{study['id']}")


def cancelled(client: Client, path: str) -> str:
    """Cancel work; the outcome is the same whether it ended before or not, as both may happen."""
    said_yes = False
    try:
        client.send("POST", f"{path}/cancel")
        said_yes = True
    except Refused as refused:
        if refused.problem != "already-terminal":
            raise
    work = client.end_of(path)
    if said_yes and work["status"] != "cancelled":
        client.record.violate(f"{path} was cancelled and is {work['status']}")
    client.record.count(f"cancellations that found it {'open' if said_yes else 'ended'}")
    if work["status"] == "failed":
        raise Failed(work)
    return "ended"


SCRIPTS: Final = (
    Script("audit", plain_audit, 4),
    Script("audit, controls", controlled_audit, 2),
    Script("audit, derived", derived_audit, 2),
    Script("audit, exported", exported_audit, 2),
    Script("study", pair_study, 2),
    Script("gate", gated_audit, 2),
    Script("edit, svd", svd_edit, 2),
    Script("edit, kfac", kfac_edit, 2),
    Script("score", scored_at_once, 2),
    Script("text set, erased", erased_texts, 2),
    Script("audit, cancelled", cancelled_audit, 2),
    Script("study, cancelled", cancelled_study, 1),
)
