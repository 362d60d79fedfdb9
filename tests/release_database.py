"""Write what a release leaves in its database, and what its API answered: rows for the releases after it.

Run with the code of that release, from its checkout:

    PYTHONPATH=$PWD python <this file> <directory> release_0_1

It writes `release_0_1.sql.gz`, a dump that needs nothing but an empty database, and `release_0_1.json.gz`,
the answers. Checkpoints lie under `/models` meanwhile, so that no row names a directory of this machine.
"""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import psycopg

from app.embedded.binaries import postgres_binaries
from tests import tiny_models
from tests.deployments import deployments
from tests.live_service import LiveService, until

MODELS = Path("/models")
# The key of the dump: a word for tests, known to everybody.
KEY = "mak_" + "release-database-for-tests-only"
SPLIT = {"prefix_tokens": 16, "suffix_tokens": 8}
IDEMPOTENCY_KEY = {"Idempotency-Key": "asked-for-once"}


def save_checkpoints(sentences: list[str]) -> None:
    """One that recites, one that will change once it is registered, and one that is none."""
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    kind, usual = tiny_models._SHAPES["llama"]
    tiny_models._SHAPES["llama"] = (kind, {**usual, **shape})
    tiny_models._cached_tokenizer = lambda **options: tiny_models.train_tokenizer(300, **options)
    tiny_models.save_reciting_model(MODELS / "reciting", sentences[:12], steps=500)
    shutil.copytree(MODELS / "reciting", MODELS / "changed")
    (MODELS / "empty").mkdir()


def upload_sets(service: LiveService, sentences: list[str]) -> dict[str, str]:
    """Text sets by the role that they have."""
    recited = [
        {"id": f"text-{number}", "text": text, "duplicates": 4 ** (number % 3), "group": "manual/topics"}
        for number, text in enumerate(sentences[:12])
    ]
    question = {"text": sentences[20], "choices": ["Yes.", "No."], "answer": 0}
    strange = [
        {"id": "=sum", "text": "A short one."},
        {"id": "split", "prefix": sentences[0][:60], "suffix": sentences[0][60:], "member": True},
        {"id": "empty", "text": "", "metadata": {"why": "nothing to score"}},
    ]
    texts = {
        "seen": recited[:6],
        "unseen": recited[6:],
        "control": [{"text": text} for text in sentences[100:106]],
        "clean": [{"text": text} for text in sentences[200:206]],
        "calibration": [{"text": text} for text in sentences[300:312]],
        "items": [question],
        "many": [{"text": text} for text in sentences[400:440]],
        "mixed": [*recited, *strange],
    }
    return {name: service.upload(rows, name) for name, rows in texts.items()}


def post(service: LiveService, path: str, body: dict[str, Any], key: dict[str, str]) -> dict[str, Any]:
    """What a request is answered with."""
    response = service.client.post(path, json=body, headers=key)
    assert response.status_code == 202, response.text
    return dict(response.json())


def end_of(service: LiveService, path: str, status: str, seconds: float = 300) -> None:
    """Wait for the one end that is wanted."""
    reached = ("succeeded", "failed", "cancelled", "ready", "rejected")
    until(lambda: service.client.get(path).json()["status"] in reached, path, seconds)
    resource = service.client.get(path).json()
    assert resource["status"] == status, (resource["error"], service.logs()[-3000:])


def edit(
    service: LiveService, model: str, sets: dict[str, str], name: str, method: str, **fields: Any
) -> str:
    """The path of an edit that is asked for with everything that an evaluation can have."""
    evaluation = {f"{role}_text_set": sets[role] for role in ("unseen", "control", "clean", "items")}
    limits = {"max_strict": 0.5, "max_perplexity_increase": 1.0, "min_ndcg": 0.5}
    body = {
        "model": model,
        "method": method,
        "name": name,
        "layers": [0, 1],
        "forget_text_set": sets["seen"],
        "calibration_text_set": sets["calibration"],
        "evaluation": {**evaluation, **SPLIT, "limits": limits, "stress": name == "by-kfac"},
        **fields,
    }
    return f"/v1/edits/{post(service, '/v1/edits', body, {'Idempotency-Key': name})['id']}"


def fill(service: LiveService, sets: dict[str, str]) -> dict[str, Any]:
    """Ask for one of everything and let it come to its end. Returns what a client sent, to send it again."""
    worker = service.start_worker()
    models = {name: service.register(MODELS / name) for name in ("reciting", "changed", "empty")}
    for name, model in models.items():
        end_of(service, f"/v1/models/{model}", "rejected" if name == "empty" else "ready")

    options = {**SPLIT, "token_evidence": True}
    metrics = ["nl", "extraction", "verbatim", "p_z"]
    body = {"model": models["reciting"], "text_set": sets["mixed"], "metrics": metrics, "options": options}
    body["metadata"] = {"ticket": 7}
    audit = post(service, "/v1/audits", body, IDEMPOTENCY_KEY)
    end_of(service, f"/v1/audits/{audit['id']}", "succeeded")
    with (MODELS / "changed" / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    end_of(service, f"/v1/audits/{service.audit(models['changed'], sets['seen'])}", "failed")

    kfac = {"block_tokens": 64, "keep_mass": 0.8}
    subnet = {"balanced_subnet": {"epochs": 1, "ratio": 0.01}, "block_tokens": 64}
    svd = {"rank_ratio": dict.fromkeys(("gate", "up", "down"), 0.5), "calibration_text_set": None}
    sweep = {"sweep": {"keep_mass": [0.8, 0.9]}, "constraint": {"max_perplexity_increase": 100}}
    base = models["reciting"]
    by_kfac = edit(service, base, sets, "by-kfac", "kfac", **kfac)
    end_of(service, by_kfac, "succeeded")
    for name, method, fields in (
        ("by-svd", "svd", svd | {"forget_text_set": None}),
        ("by-subnet", "balanced_subnet", subnet),
        ("by-search", "kfac", sweep | {"block_tokens": 64}),
    ):
        end_of(service, edit(service, base, sets, name, method, **fields), "succeeded")
    # Whatever unlearns a recited text makes it more perplexing.
    measured = {"clean_text_set": sets["seen"], "memorized_text_set": sets["unseen"], **SPLIT}
    hopeless = {
        "evaluation": measured,
        "block_tokens": 64,
        "sweep": {"keep_mass": [0.1, 0.2]},
        "constraint": {"max_perplexity_increase": 0},
    }
    end_of(service, edit(service, base, sets, "hopeless", "kfac", **hopeless), "failed")

    # Its files are in the database: whoever restores it can go on.
    edited = service.client.get(by_kfac).json()["edited_model"]
    stop_in_the_middle(service, worker, service.audit(edited, sets["many"], options=SPLIT))
    service.audit(edited, sets["mixed"], metrics=metrics, options=options)
    cancelled = service.audit(models["reciting"], sets["seen"])
    assert service.client.post(f"/v1/audits/{cancelled}/cancel").status_code == 202
    edit(service, edited, sets, "waiting", "kfac", **kfac)
    service.register({"type": "hub", "repo": "acme/tiny", "revision": "main"})
    return {"path": "/v1/audits", "body": body, "headers": IDEMPOTENCY_KEY, "id": audit["id"]}


def stop_in_the_middle(service: LiveService, worker: Any, audit_id: str) -> None:
    """Stop the worker while it runs a shard of an audit of which others are done and others wait."""
    with psycopg.connect(service.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        states = (
            "SELECT bool_or(state = 'running'), bool_or(state = 'succeeded'), bool_or(state = 'queued') "
            "FROM jobs WHERE kind = 'score_shard' AND audit_id = (SELECT max(id::text)::uuid FROM audits)"
        )
        family = [psutil.Process(worker.process.pid)]
        family += family[0].children(recursive=True)
        for _ in range(10_000):
            if connection.execute(states).fetchone() == (True, True, True):
                for process in family:
                    process.send_signal(signal.SIGSTOP)
                if connection.execute(states).fetchone() == (True, True, True):
                    break
                for process in family:
                    process.send_signal(signal.SIGCONT)
        else:
            raise AssertionError(f"{audit_id} was too quick")
    for process in family:
        process.kill()


def answers(service: LiveService) -> dict[str, Any]:
    """What the API answers to every request that reads something, by its path."""
    found: dict[str, Any] = {}

    def read(path: str) -> Any:
        response = service.client.get(path)
        assert response.status_code == 200, (path, response.text)
        found[path] = response.json()
        return found[path]

    for kind in ("models", "text-sets", "audits", "edits"):
        for resource in read(f"/v1/{kind}?limit=100")["data"]:
            path = f"/v1/{kind}/{resource['id']}"
            read(path)
            if kind == "text-sets":
                read(f"{path}/texts")
            if kind == "audits" and resource["status"] == "succeeded":
                rows = read(f"{path}/scores?limit=1000")["data"]
                if resource["options"]["token_evidence"]:
                    for row in rows:
                        if row["error"] is None:
                            read(f"{path}/scores/{row['text_id']}/tokens")
            if kind == "edits" and resource["artifact"] is not None:
                read(f"/v1/artifacts/{resource['artifact']}")
                read(f"/api/models/{resource['model_repo']}")
    return found


def make_anonymous(database_url: str) -> None:
    """Put a known key in place of the one made at random, and forget which machine worked."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(
            "UPDATE api_keys SET sha256 = %s, hint = %s", (hashlib.sha256(KEY.encode()).hexdigest(), KEY[-4:])
        )
        connection.execute("UPDATE jobs SET worker = 'worker:1' WHERE worker IS NOT NULL")


def dump(database_url: str) -> bytes:
    """The database as statements that any client can run."""
    program = postgres_binaries(None) / "pg_dump"
    options = ["--no-owner", "--no-privileges", "--rows-per-insert=1000", "--no-comments"]
    command = [str(program), *options, database_url.replace("+psycopg", "")]
    statements = subprocess.run(command, capture_output=True, check=True).stdout
    # psql's own commands are no SQL.
    lines = [line for line in statements.splitlines() if not line.startswith((b"\\", b"--"))]
    return b"\n".join(lines) + b"\n"


def main(directory: Path, release: str) -> None:
    """Make the two files."""
    sentences = [sentence[:120] for sentence in tiny_models.english_sentences()]
    MODELS.mkdir()
    try:
        save_checkpoints(sentences)
        with deployments([MODELS]) as start:
            service = start(lease_seconds=600.0, shard_tokens=64).service
            sent = fill(service, upload_sets(service, sentences))
            facts = {"key": KEY, "sent": sent, "answers": answers(service)}
            make_anonymous(service.database_url)
            for suffix, content in (
                ("sql", dump(service.database_url)),
                ("json", json.dumps(facts).encode()),
            ):
                path = directory / f"{release}.{suffix}.gz"
                path.write_bytes(gzip.compress(content, 9, mtime=0))
                sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")
    finally:
        shutil.rmtree(MODELS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
