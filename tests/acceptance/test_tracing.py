"""A trace goes from a request to all its jobs, through rows, and nothing that was submitted is in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.collector import Collector
from tests.deployments import Deploy, Deployment
from tests.live_service import fresh_key

CANARY = "canary7f3a"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENTS_SPAN = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CLIENTS_SPAN}-01"


def request_audit(deployment: Deployment, model: str) -> str:
    service = deployment.service
    texts = [{"id": f"{CANARY}-{n}", "text": f"{CANARY} number {n}", "group": CANARY} for n in range(4)]
    text_set = service.upload(texts, name=CANARY)
    body = {"model": model, "text_set": text_set, "metadata": {"team": CANARY}}
    headers = fresh_key() | {"traceparent": TRACEPARENT, "baggage": f"note={CANARY}"}
    response = service.client.post("/v1/audits", json=body, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_one_trace_goes_from_the_request_to_every_job(
    deploy: Deploy, collector: Collector, tiny_checkpoint: Path
) -> None:
    deployment = deploy(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="200")
    service = deployment.service
    worker = service.start_worker()
    model = service.register(tiny_checkpoint)
    assert service.model(model)["status"] == "ready"
    # The bell of the request is lost, and the trace all the same goes on.
    with deployment.redis_lost():
        audit = request_audit(deployment, model)
    assert service.end_of(audit)["status"] == "succeeded"
    tokens = service.client.get(f"/v1/audits/{audit}/scores/{CANARY}-1/tokens")
    assert tokens.status_code == 200
    assert service.client.get("/v1/audits", params={"metadata[team]": CANARY}).json()["data"]
    assert service.client.get(f"/v1/{CANARY}").status_code == 404
    worker.stop()
    service.api.stop()

    spans = collector.spans()
    ours = {span["name"]: span for span in spans if span["trace"] == TRACE_ID}
    assert set(ours) == {
        "POST /v1/audits",
        "job plan_audit",
        "job score_shard",
        "job summarize_audit",
        "finish",
    }
    request = ours["POST /v1/audits"]
    assert (request["service"], request["parent"]) == ("memaudit-api", CLIENTS_SPAN)
    assert request["attributes"]["http.response.status_code"] == 202
    parents = {name: span["parent"] for name, span in ours.items() if name.startswith("job ")}
    assert parents["job plan_audit"] == request["id"]
    # Each is enqueued by the one before it, in the transaction that finishes that.
    finishes = {span["id"]: span["parent"] for span in spans if span["name"] == "finish"}
    assert finishes[parents["job score_shard"]] == ours["job plan_audit"]["id"]
    assert finishes[parents["job summarize_audit"]] == ours["job score_shard"]["id"]
    score = ours["job score_shard"]
    assert score["service"] == "memaudit-worker"
    job_id = deployment.rows("SELECT id::text FROM jobs WHERE kind = 'score_shard'")[0][0]
    assert score["attributes"] == {
        "memaudit.job.id": job_id,
        "memaudit.job.kind": "score_shard",
        "memaudit.job.queue": "gpu",
        "memaudit.job.attempt": 1,
        "memaudit.job.outcome": "succeeded",
    }
    assert "GET /v1/audits/{audit_id}/scores/{text_id}/tokens" in {span["name"] for span in spans}
    assert not [span for span in spans if span["events"] or "readyz" in span["name"]]
    assert not [body for body in collector.bodies if CANARY.encode() in body]


@pytest.fixture
def without_collector() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


def test_without_a_collector_nothing_is_loaded_and_no_row_is_marked(
    without_collector: dict[str, str],
) -> None:
    check = """
import sys
import app.main, workers.celery_app
from app.store.jobs.kinds import PLAN_AUDIT
from app.store.jobs.queue import job_values
from app.tracing import span, start_tracing
start_tracing("test")()
with span("work"):
    assert job_values(PLAN_AUDIT, owner_id=None)["traceparent"] is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    environment = without_collector | {"MEMAUDIT_BROKER_URL": "redis://nowhere"}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)


def test_a_collector_without_what_sends_to_it_is_said(without_collector: dict[str, str]) -> None:
    check = """
import sys
sys.modules["opentelemetry.sdk"] = None
from app.tracing import start_tracing
start_tracing("test")
"""
    environment = without_collector | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].endswith("install memaudit[telemetry]")


def test_a_collector_that_is_away_holds_nothing_up(deploy: Deploy, tiny_checkpoint: Path) -> None:
    deployment = deploy(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="100")
    service = deployment.service
    worker = service.start_worker()
    audit = request_audit(deployment, service.register(tiny_checkpoint))
    assert service.end_of(audit)["status"] == "succeeded"
    for program in (worker, service.api):
        assert program.process is not None
        program.process.terminate()
    for program in (worker, service.api):
        assert program.process is not None
        assert program.process.wait(20) in {0, -signal.SIGTERM}
    assert CANARY not in service.logs()
