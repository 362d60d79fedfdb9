"""A dump of the database is a whole backup: restored, all is there and what was interrupted goes on."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from app.embedded.binaries import postgres_binaries
from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from app.store.core.migrate import upgrade
from tests.deployments import Deploy
from tests.edit_requests import succeeded
from tests.live_service import LiveService, fresh_key
from tests.servers import temporary_layout

# As docs/operations.md says.
DUMP = ["pg_dump", "--format=custom"]
RESTORE = ["pg_restore", "--no-owner", "--exit-on-error"]
TEXTS = 200
SETS = ("audits", "edits", "text-sets", "models")


def run(command: list[str], postgres: PostgresServer, *arguments: str | Path) -> None:
    program, *options = command
    binary = postgres_binaries(postgres.layout.account) / program
    subprocess.run([binary, *options, *arguments], check=True, capture_output=True, text=True)


@contextmanager
def restored(dump: Path, directory: Path, model_roots: list[Path]) -> Iterator[LiveService]:
    """A service on an empty Postgres, into which a dump was restored, and a Redis that knows of nothing."""
    with ExitStack() as running:
        postgres = running.enter_context(PostgresServer(running.enter_context(temporary_layout())))
        redis = running.enter_context(RedisServer(running.enter_context(temporary_layout())))
        run(RESTORE, postgres, "--dbname", postgres.url, dump)
        upgrade(postgres.url)
        directory.mkdir()
        service = LiveService(
            directory,
            database_url=postgres.url,
            broker_url=redis.url,
            model_roots=model_roots,
            lease_seconds=2.0,
            shard_tokens=2048,
        )
        yield running.enter_context(service)


def everything(client: Any, audit: str, edit: dict[str, Any]) -> dict[str, Any]:
    """Every answer about what has ended."""
    lists = {name: client.get(f"/v1/{name}").json()["data"] for name in SETS}
    ended = {name: [each for each in rows if each["status"] != "running"] for name, rows in lists.items()}
    paths = {
        f"/v1/audits/{audit}",
        f"/v1/audits/{audit}/scores",
        f"/v1/audits/{audit}/scores/text-1/tokens",
        f"/v1/edits/{edit['id']}",
        f"/v1/artifacts/{edit['artifact']}",
    }
    return ended | {path: client.get(path).json() for path in paths}


def test_a_restored_dump_holds_everything_and_goes_on(
    deploy: Deploy,
    tmp_path: Path,
    tiny_checkpoint: Path,
    audited_texts: list[dict[str, Any]],
    sentences: list[str],
) -> None:
    original = deploy()
    service = original.service
    worker = service.start_worker()
    model = service.register(tiny_checkpoint)
    audit = service.audit(model, service.upload(audited_texts[:20]))
    assert service.end_of(audit)["status"] == "succeeded"
    clean = service.upload([{"text": text} for text in sentences[:5]])
    body = {"model": model, "method": "svd", "name": "cut", "layers": [0]}
    edit = succeeded(service, body | {"evaluation": {"clean_text_set": clean}})

    interrupted = service.audit(model, service.upload(audited_texts[:TEXTS]))
    original.wait_for_jobs("score_shard", "succeeded", 2)
    dump = tmp_path / "memaudit.dump"
    # While the service runs, and a shard is computed: the dump is of one moment.
    child = original.suspend_within(worker, "score_shard")
    run(DUMP, original.postgres, "--file", dump, original.postgres.url)
    expected = everything(service.client, audit, edit)
    child.resume()
    assert service.end_of(interrupted)["status"] == "succeeded"
    expected_scores = service.scores(interrupted)

    with restored(dump, tmp_path / "restored", [tiny_checkpoint.parent]) as after:
        client = after.client_for(service.key)
        halted = client.get(f"/v1/audits/{interrupted}").json()
        assert halted["status"] == "running"
        assert 0 < halted["progress"]["done"] < TEXTS
        found = everything(client, audit, edit)
        assert found == expected
        manifest = found[f"/v1/artifacts/{edit['artifact']}"]
        assert len(manifest["files"]) > 3
        for file in manifest["files"]:
            content = client.get(f"/v1/artifacts/{edit['artifact']}/files/{file['path']}").content
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
        after.start_worker()
        assert after.end_of(interrupted)["status"] == "succeeded"
        assert after.scores(interrupted) == expected_scores
        # And the edited model can be audited, from what was restored.
        again = client.post(
            "/v1/audits", json={"model": edit["edited_model"], "text_set": clean}, headers=fresh_key()
        )
        assert after.end_of(again.json()["id"])["status"] == "succeeded"
        client.close()
