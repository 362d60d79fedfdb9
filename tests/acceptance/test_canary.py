"""Nothing leaks: after work of every kind, with crashes in it, no submitted text is found anywhere.

Each text holds words that nobody else writes. Then every file of the service, of Postgres and of Redis, every
table, log, trace, metric and answer is searched for them, in each form that a file may hold. Where the client
asked for its texts they are, and nowhere else.
"""

import io
import json
import random
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from app.embedded.binaries import postgres_binaries
from app.signing.keys import ensure_signing_key
from tests import leaking_scores
from tests.canaries import STEM, files_below, forms, open_files, redis_content, search, token_forms, word
from tests.collector import Collector
from tests.deployments import Deploy, Deployment, deployments
from tests.edit_requests import end_of
from tests.live_service import PATIENCE, SCOPES, fresh_key, make_key, until
from tests.tiny_models import english_sentences
from tests.tls_servers import make_authority
from tests.webhook_receiver import Receiver

LEAKING = Path(__file__).parents[1] / "leaking"
SENTENCES = [" ".join(each.replace('"', "'").split()) for each in english_sentences()]
SPLIT = {"prefix_tokens": 8, "suffix_tokens": 6}
# The answers that hold texts because the client asked for them.
ASKED_FOR = ("/texts", "/tokens", "/text", "/try", "texts=full")
# Groups are shown in lists and summaries, and so stored in clear: whoever finds no group can find nothing.
VISIBLE = "group-that-lists-show"
# How often each fault comes in the long run.
ROUNDS = 3
SHARED_MEMORY = Path("/dev/shm")


@dataclass
class Run:
    """Work on a deployment, what was submitted for it, and what was answered."""

    deployment: Deployment
    collector: Collector
    receiver: Receiver
    model: str
    temporary: Path
    texts: int = 0
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    began: frozenset[Path] = field(default_factory=lambda: frozenset(_left_behind()))

    def __post_init__(self) -> None:
        self.client = self.watched(self.deployment.service.client)
        self.listening = Listening(self.deployment)

    def watched(self, client: httpx.Client) -> httpx.Client:
        """A client whose answers are kept, but for those that hold texts by right."""

        def keep(response: httpx.Response) -> None:
            address = str(response.request.url)
            body = response.read()
            if response.is_error or not any(part in address for part in ASKED_FOR):
                self.answers.append((f"{response.request.method} {address}", body))
            self.answers.append((f"headers of {address}", str(response.headers.raw).encode()))

        client.event_hooks = {"response": [keep]}
        return client

    def text(self, role: str) -> str:
        """A text with the word of a role in it, once at its beginning and once at its end."""
        self.texts += 1
        return f"{word(role)} walks; {SENTENCES[self.texts][:60]} and {word(role)}"

    def records(self, role: str, count: int = 6) -> list[dict[str, Any]]:
        """Texts with all that a text may have."""
        return [
            {
                "text": self.text(f"{role} {number}"),
                "choices": [self.text(f"{role} choice {number}"), "b"],
                "answer": 0,
                "metadata": {"note": self.text(f"{role} metadata {number}")},
                "group": VISIBLE,
                "duplicates": number % 3,
                "member": bool(number % 2),
            }
            for number in range(count)
        ]

    def post(self, path: str, body: dict[str, Any], key: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self.client.post(path, json=body, headers=key or fresh_key())
        assert answer.is_success, answer.text
        return dict(answer.json())

    def keep_up(self) -> None:
        """Start a worker again that has ended by itself, as a supervisor does."""
        for worker in self.deployment.service.workers:
            if worker.process is not None and worker.process.poll() is not None:
                worker.start()

    def succeeded(self, path: str, made: dict[str, Any]) -> dict[str, Any]:
        address = f"{path}/{made['id']}"
        ended: dict[str, Any] = {}

        def has_ended() -> bool:
            self.keep_up()
            ended.update(self.client.get(address, params={"wait": 5}).json())
            return ended["status"] not in {"queued", "running"}

        until(has_ended, f"{address} ends", seconds=300)
        assert ended["status"] == "succeeded", (ended["error"], self.deployment.service.logs()[-2000:])
        return ended


@pytest.fixture
def run(collector: Collector, tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Run]:
    """A deployment with traces, whose processes have a place of their own for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with (
        deployments([tiny_checkpoint.parent]) as deploy,
        Receiver(make_authority(tmp_path / "authority")) as receiver,
    ):
        started = start(deploy, collector, receiver, tiny_checkpoint, temporary)
        with started.listening:
            yield started


def start(deploy: Deploy, collector: Collector, receiver: Receiver, checkpoint: Path, temporary: Path) -> Run:
    deployment = deploy(
        **receiver.environment,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="200",
        TMPDIR=str(temporary),
        PYTHONPATH=f"{LEAKING}:{Path(__file__).parents[2]}",
        MEMAUDIT_RETRY_SECONDS="0.2",
        MEMAUDIT_LOG_LEVEL="debug",
        lease_seconds=3.0,
    )
    service = deployment.service
    ensure_signing_key(service.directory / "signing-keys")
    service.start_worker(include=leaking_scores.__name__)
    made = service.client.post("/v1/webhooks", json={"url": receiver.url}, headers=fresh_key())
    assert made.status_code == 201, made.text
    model = service.register(checkpoint)
    assert service.model(model)["status"] == "ready"
    return Run(deployment, collector, receiver, model, temporary)


def test_no_submitted_text_is_found_anywhere(run: Run) -> None:
    sets = upload_in_every_form(run)
    refuse(run)
    audit = audit_and_judge(run, sets)
    edit(run, sets)
    kill_a_worker(run, sets)
    fail_with_exceptions_that_quote(run)
    visit_pages(run, audit)
    tokens = forms_of_tokens(run, audit)
    assert_nothing_found(run, tokens)
    for text_set in sets.values():
        assert run.client.delete(f"/v1/text-sets/{text_set}").status_code == 200
    assert_nothing_found(run, tokens)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_no_submitted_text_is_found_anywhere_however_often_it_crashes(run: Run) -> None:
    """The same with every process killed in the middle of work of every kind, in an order drawn by a seed."""
    sets = upload_in_every_form(run)
    audit = audit_and_judge(run, sets)
    edit(run, sets)
    faults: list[Callable[[], None]] = [
        lambda: kill_a_worker(run, sets),
        lambda: crash_postgres(run, sets),
        lambda: lose_redis(run, sets),
        lambda: kill_the_api(run),
        lambda: fail_with_exceptions_that_quote(run),
    ]
    for fault in random.Random(7).sample(faults * ROUNDS, k=ROUNDS * len(faults)):
        fault()
    visit_pages(run, audit)
    tokens = forms_of_tokens(run, audit)
    assert_nothing_found(run, tokens)


def upload_in_every_form(run: Run) -> dict[str, str]:
    """The ids of text sets, each of which came in a form of its own."""
    client = run.client
    sets = {"json": run.post("/v1/text-sets", {"name": "set", "texts": run.records("json")})["id"]}
    split = [{"prefix": run.text(f"prefix {n}"), "suffix": run.text(f"suffix {n}")} for n in range(6)]
    sets["split"] = run.post("/v1/text-sets", {"name": "split", "texts": split})["id"]
    controls = [{"text": run.text(f"control {n}")} for n in range(12)]
    sets["controls"] = run.post("/v1/text-sets", {"name": "controls", "texts": controls})["id"]
    table = io.BytesIO()
    pq.write_table(pa.table({"text": [run.text(f"parquet {n}") for n in range(6)]}), table)
    bodies = {
        "application/jsonl": "".join(json.dumps(each) + "\n" for each in run.records("jsonl")).encode(),
        "text/csv": "".join(["text\n", *(f'"{run.text(f"csv {n}")}"\n' for n in range(6))]).encode(),
        "application/vnd.apache.parquet": table.getvalue(),
    }
    for media_type, body in bodies.items():
        key = fresh_key()
        for _ in range(2):
            answer = client.post(
                "/v1/text-sets",
                params={"name": "stream"},
                content=body,
                headers={"Content-Type": media_type, **key},
            )
            assert answer.status_code == 201, answer.text
        sets[media_type] = answer.json()["id"]
    return sets


def upload_slowly(run: Run) -> str:
    """An upload; when half of it has come, what the API holds in files is searched."""
    process = run.deployment.service.api.process
    assert process is not None
    wanted = forms(STEM)
    found: list[str] = []
    line = json.dumps({"text": run.text(f"slow {run.texts}")}).encode() + b"\n"

    def body() -> Iterator[bytes]:
        for part in range(16):
            yield line * 60
            if part == 8:
                until(lambda: bool(dict(open_files(process.pid))), "an upload waits in a file")
                found.extend(search(open_files(process.pid), wanted))

    answer = run.client.post(
        "/v1/text-sets",
        params={"name": "slow"},
        content=body(),
        headers={"Content-Type": "application/jsonl", **fresh_key()},
    )
    assert answer.status_code == 201, answer.text
    assert not found
    return str(answer.json()["id"])


def refuse(run: Run) -> None:
    """Requests that are refused because of a text."""
    for role, body in (
        ("refused", '{"name":"x","texts":[{"text":"%s\\ud800"}]}'),
        ("unknown field", '{"name":"x","texts":[{"%s":1}]}'),
        ("wrong type", '{"name":"x","texts":[{"text":["%s"]}]}'),
        ("twice", '{"name":"x","texts":[{"id":"a","text":"%s"},{"id":"a","text":"b"}]}'),
    ):
        answer = run.client.post(
            "/v1/text-sets", content=body % run.text(role), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in {400, 422}, answer.text


def audit_and_judge(run: Run, sets: dict[str, str]) -> str:
    """An audit with all that belongs to one, asked for twice, judged and told; its id."""
    key = fresh_key()
    metrics = ["nl", "extraction", "p_z", "membership", "multiple_choice"]
    body = {
        "model": run.model,
        "text_set": sets["json"],
        "control_text_set": sets["controls"],
        "metrics": metrics,
        "options": SPLIT,
    }
    first, second = (run.post("/v1/audits", body, key) for _ in range(2))
    assert first["id"] == second["id"]
    audit = str(run.succeeded("/v1/audits", first)["id"])
    for name in ("split", "application/jsonl", "text/csv", "application/vnd.apache.parquet"):
        made = run.post("/v1/audits", {"model": run.model, "text_set": sets[name], "options": SPLIT})
        run.succeeded("/v1/audits", made)
    score = {"model": run.model, "texts": [{"text": run.text("score")}], "timeout": 60}
    run.post("/v1/score", score)
    rules = [{"kind": "rate", "metric": "strict", "at_most": 0.5, "confidence": 0.95}]
    policy = run.post("/v1/policies", {"name": "rules", "rules": rules})["id"]
    gate = run.post("/v1/gates", {"policy": policy, "audit": audit})
    run.succeeded("/v1/gates", gate)
    read_evidence(run, f"/v1/audits/{audit}")
    run.client.get(f"/v1/audits/{audit}/events")
    for media_type in ("application/jsonl", "text/csv", "application/vnd.apache.parquet"):
        run.client.get(f"/v1/audits/{audit}/scores", headers={"Accept": media_type})
    return audit


def read_evidence(run: Run, path: str) -> None:
    """Every document of finished work, without texts for its own key, with them for who may read them."""
    key = make_key(run.deployment.service.database_url, scopes=[*SCOPES, "audit:evidence"])
    listed = run.client.get(f"{path}/evidence").json()["data"]
    formats = [each["name"] for each in listed if each["available"]]
    assert formats
    for name in formats:
        assert run.client.get(f"{path}/evidence/{name}").status_code == 200
    with run.watched(run.deployment.service.client_for(key)) as full:
        for name in ("html", "every-eval-ever"):
            full.get(f"{path}/evidence/{name}", params={"texts": "full"})


def edit(run: Run, sets: dict[str, str]) -> None:
    """An edit whose labels are drawn from the model, of texts in every role."""
    calibration = [{"text": run.text(f"calibration {n}") + " " + SENTENCES[300 + n]} for n in range(40)]
    sets["calibration"] = run.post("/v1/text-sets", {"name": "c", "texts": calibration})["id"]
    made = run.post(
        "/v1/edits",
        {
            "model": run.model,
            "method": "kfac",
            "name": "edited",
            "layers": [0],
            "calibration_text_set": sets["calibration"],
            "block_tokens": 64,
            "labels": "sampled",
            "evaluation": {
                "memorized_text_set": sets["json"],
                "control_text_set": sets["controls"],
                "clean_text_set": sets["split"],
                **SPLIT,
            },
        },
    )
    ended = end_of(run.deployment.service, made)
    assert ended["status"] == "succeeded", (ended["error"], run.deployment.service.logs()[-2000:])
    artifact = ended["artifact"]
    manifest = run.client.get(f"/v1/artifacts/{artifact}").json()
    for file in manifest["files"]:
        run.client.get(f"/v1/artifacts/{artifact}/files/{file['path']}")
    study(run, sets, ended["edited_model"])


def study(run: Run, sets: dict[str, str], edited: str) -> None:
    """The base model and the edited one on the same texts."""
    models = [{"model": model, "label": label} for model, label in ((run.model, "base"), (edited, "edited"))]
    asked = {"name": "s", "kind": "release", "text_set": sets["json"], "models": models, "options": SPLIT}
    made = run.post("/v1/studies", asked)
    run.succeeded("/v1/studies", made)
    run.client.get(f"/v1/studies/{made['id']}/texts")


def kill_a_worker(run: Run, sets: dict[str, str]) -> None:
    """Kill a worker's job process while it scores; its job is done by another. The texts come slowly."""
    service = run.deployment.service
    # Texts that no audit has scored, for what follows from another audit's evidence is not scored.
    sets["slow"] = upload_slowly(run)
    made = run.post("/v1/audits", {"model": run.model, "text_set": sets["slow"], "metrics": ["nl"]})
    run.deployment.suspend_within(service.workers[-1], "score_shard").kill()
    run.succeeded("/v1/audits", made)


def crash_postgres(run: Run, sets: dict[str, str]) -> None:
    """Kill Postgres while a worker scores, so that it replays its log."""
    made = run.post("/v1/audits", {"model": run.model, "text_set": sets["json"], "options": SPLIT})
    with run.deployment.postgres_killed():
        pass
    until(lambda: run.client.get("/readyz").status_code == 200, "the service is ready again")
    run.succeeded("/v1/audits", made)


def lose_redis(run: Run, sets: dict[str, str]) -> None:
    """Take Redis away with all it has while an audit is asked for."""
    with run.deployment.redis_lost():
        made = run.post("/v1/audits", {"model": run.model, "text_set": sets["controls"], "options": SPLIT})
    run.succeeded("/v1/audits", made)


def kill_the_api(run: Run) -> None:
    """Kill the API in the middle of an upload."""
    api = run.deployment.service.api
    assert api.process is not None
    line = json.dumps({"text": run.text("killed upload")}).encode() + b"\n"

    def body() -> Iterator[bytes]:
        yield line * 5000
        assert api.process is not None
        api.process.kill()
        api.process.wait()
        yield line

    with pytest.raises(httpx.TransportError):
        run.client.post(
            "/v1/text-sets",
            params={"name": "x"},
            content=body(),
            headers={"Content-Type": "application/jsonl"},
        )
    run.deployment.service.start_api()


def fail_with_exceptions_that_quote(run: Run) -> None:
    """Defects of the API and of a worker whose exceptions quote a text."""
    text = f"{run.text('defect of the API')} leakapi"
    answer = run.client.post("/v1/text-sets", json={"name": "x", "texts": [{"text": text}]})
    assert answer.status_code == 500
    text = f"{run.text('defect of a worker')} {leaking_scores.MARK}"
    text_set = run.post("/v1/text-sets", {"name": "x", "texts": [{"text": text}]})["id"]
    made = run.post("/v1/audits", {"model": run.model, "text_set": text_set})
    ended = run.deployment.service.end_of(made["id"])
    assert ended["status"] == "failed"


def visit_pages(run: Run, audit: str) -> None:
    """What a browser does: sign in, look at everything, try a text."""
    service = run.deployment.service
    headers = {"Origin": service.url, "Accept": "text/html"}
    with run.watched(httpx.Client(base_url=service.url, headers=headers, timeout=60)) as browser:
        assert browser.post("/sign-in", data={"key": service.key}).status_code == 303
        for path in ("/audits", f"/audits/{audit}", "/studies", "/edits", "/gates", "/models", "/text-sets"):
            assert browser.get(path).status_code == 200, path
        first = run.client.get(f"/v1/audits/{audit}/scores").json()["data"][0]["text_id"]
        shown = browser.get(f"/audits/{audit}/text", params={"id": first})
        # Each token is an element of its own there.
        assert word("json 0") in re.sub(r"<[^>]+>", "", shown.text)
        tried = browser.post("/try", data={"model": run.model, "text": run.text("tried")})
        assert tried.status_code == 303, tried.text
        assert browser.get(tried.headers["location"]).status_code == 200


def assert_nothing_found(run: Run, tokens: dict[str, bytes]) -> None:
    """Search everything there is for all that was submitted."""
    deployment = run.deployment
    wanted = forms(STEM) | tokens
    messages = list(run.receiver.received)
    # All of them were listened to.
    assert messages
    assert run.collector.bodies
    assert run.listening.commands
    places = [
        *run.answers,
        ("metrics", run.client.get("/metrics").content),
        ("logs", deployment.service.logs().encode()),
        *((f"trace {n}", body) for n, body in enumerate(list(run.collector.bodies))),
        *((f"webhook {each.id}", each.body + str(each.headers).encode()) for each in messages),
        *((f"command of Redis {n}", command) for n, command in enumerate(list(run.listening.commands))),
    ]
    assert search(places, wanted) == []
    assert search(_stored(run), wanted) == []
    with deployment.redis.client() as client:
        client.save()
        assert search(redis_content(client), wanted) == []
    with psycopg.connect(deployment.postgres.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    assert search(_stored(run), wanted) == []
    dump = _dumped(deployment)
    assert search([("dump", dump)], wanted) == []
    # What is not sealed is found: the search can find something.
    assert search([("dump", dump)], {"as it is": VISIBLE.encode()})
    assert search(files_below(deployment.postgres.layout.home), {"as it is": VISIBLE.encode()})


def forms_of_tokens(run: Run, audit: str) -> dict[str, bytes]:
    """What the tokens of a text look like, as evidence of them would hold them."""
    tokens = run.client.get(f"/v1/audits/{audit}/scores/0/tokens").json()["tokens"]
    assert len(tokens) > 20
    ids = [token["token_id"] for token in tokens]
    return {f"tokens: {form}": found for form, found in token_forms(ids[1:12]).items()}


def _stored(run: Run) -> Iterator[tuple[str, bytes]]:
    """Every file that the service, its servers and whoever they started have written."""
    deployment = run.deployment
    homes = (deployment.postgres.layout.home, deployment.redis.layout.home)
    yield from files_below(deployment.service.directory, run.temporary, *homes)
    for program in (deployment.service.api, *deployment.service.workers):
        if program.process is not None and program.process.poll() is None:
            yield from open_files(program.process.pid)
    for path in _left_behind() - run.began:
        if path.is_file():
            yield str(path), path.read_bytes()


def _left_behind() -> set[Path]:
    """What lies where programs put files that nobody told them a place for."""
    return {path for place in (SHARED_MEMORY, Path(tempfile.gettempdir())) for path in place.iterdir()}


def _dumped(deployment: Deployment) -> bytes:
    command = [postgres_binaries(None) / "pg_dump", deployment.postgres.url.replace("+psycopg", "")]
    return subprocess.run(command, capture_output=True, check=True).stdout


class Listening:
    """Every command that Redis is sent, as it hears it, until Redis stops for good."""

    def __init__(self, deployment: Deployment) -> None:
        self.commands: list[bytes] = []
        self._deployment = deployment
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._over.set()
        with suppress(redis.RedisError), self._deployment.redis.client() as client:
            client.ping()  # something to hear
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _listen(self) -> None:
        while not self._over.wait(0.1):
            # Redis is taken away now and then.
            with (
                suppress(redis.RedisError),
                self._deployment.redis.client() as client,
                client.monitor() as monitor,
            ):
                while not self._over.is_set():
                    self.commands.append(str(monitor.next_command()["command"]).encode())
