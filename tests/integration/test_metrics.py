"""/metrics tells what waits, runs and fails; dashboard, alerts and autoscalers ask for no more than that."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import promql_parser
import psycopg
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from app.embedded.postgres_server import PostgresServer
from app.errors import HubUnreachable, StorageFull
from app.http import service_load
from app.settings import Settings
from app.store.core.sessions import sync_engine
from app.store.counters import Counts, add_counts, of_claim, of_lost_lease, of_retry, of_tokens
from app.store.jobs.claiming import claim
from app.store.jobs.kinds import SUMMARIZE_AUDIT
from app.store.jobs.leases import close_failed, postpone, take_for_finish
from app.store.jobs.load import RECENT, read_load
from app.store.jobs.queue import add_job
from tests.images import DOCKER
from tests.integration.rows import add_audit_rows, add_shard, add_tenant

CANARY = "canary-tenant"
# What Prometheus itself adds to every series.
OF_THE_SCRAPE = {"job", "instance", "namespace", "pod"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def busy(sessions: sessionmaker[Session], database: psycopg.Connection) -> None:
    """A service whose jobs wait, run, are over their lease, have ended, failed, and wait for a hub."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session, CANARY))
        for _ in range(5):
            add_shard(session, audit)
        add_job(session, SUMMARIZE_AUDIT, tenant_id=audit.tenant_id, owner_id=audit.id)

    def claim_next() -> Any:
        lease = claim(session, queue="gpu", worker="test", lease_seconds=60)
        assert lease is not None
        return lease

    with sessions.begin() as session:
        take_for_finish(session, claim_next())
        close_failed(session, claim_next(), StorageFull("The disk is full.").problem())
        postpone(session, claim_next(), HubUnreachable("The hub is away.").problem(), delay_seconds=600)
        claim_next()
        counts = Counts()
        for seconds in (0.05, 0.3, 7.0, 4000.0):
            counts.add(of_claim("gpu", seconds))
        for counted in (of_retry("score_shard", "lease-expired"), of_retry("score_shard", "job-crashed")):
            counts.add(counted)
        counts.add(of_lost_lease("score_shard"))
        counts.add(of_tokens("score_shard", 1000))
        add_counts(session, counts)
    database.execute("UPDATE jobs SET claimed_at = finished_at - interval '4 s' WHERE state = 'succeeded'")
    database.execute(
        "UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 s' WHERE state = 'running'"
    )
    database.execute("UPDATE jobs SET available_at = available_at - interval '90 s' WHERE queue = 'gpu'")
    # One that ended longer ago is in no number.
    database.execute(
        "INSERT INTO jobs (id, kind, queue, tenant_id, owner_kind, owner_id, payload, state, priority, "
        "epoch, attempts, progress, finished_at) "
        "SELECT gen_random_uuid(), kind, queue, tenant_id, owner_kind, "
        "owner_id, payload, state, 0, 1, 1, 0, finished_at - %s FROM jobs WHERE state = 'succeeded'",
        [RECENT],
    )


async def scrape(client: httpx.AsyncClient) -> Series:
    response = await client.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@pytest.mark.usefixtures("busy")
async def test_metrics_tell_what_waits_runs_and_fails(client: httpx.AsyncClient) -> None:
    series = await scrape(client)

    def value(name: str, **labels: str) -> float:
        return series[f"memaudit_{name}", frozenset(labels.items())]

    assert value("database_up") == 1
    assert value("database_bytes") > 1e6
    assert value("queue_claimable_jobs", queue="gpu") == 1
    assert 90 <= value("queue_oldest_seconds", queue="gpu") < 120
    assert 0 <= value("queue_oldest_seconds", queue="cpu") < 30
    assert value("queue_claimable_jobs", queue="cpu") == 1
    assert value("queue_running_jobs", queue="gpu") == value("queue_expired_jobs", queue="gpu") == 1
    assert value("queue_running_jobs", queue="cpu") == value("queue_expired_jobs", queue="cpu") == 0
    assert value("jobs", queue="gpu", kind="score_shard", state="queued") == 2  # one of them waits
    assert value("waiting_jobs", problem="hub-unreachable") == 1
    assert value("recent_jobs", kind="score_shard", state="succeeded") == 1
    assert value("recent_job_seconds", kind="score_shard", state="succeeded") == pytest.approx(4)
    assert value("recent_failed_jobs", kind="score_shard", problem="storage-full") == 1
    # Of four claims one took more than any bucket; each bucket counts those before it too.
    buckets = {le: value("claim_seconds_bucket", queue="gpu", le=le) for le in ("0.1", "0.5", "15.0", "+Inf")}
    assert buckets == {"0.1": 1, "0.5": 2, "15.0": 3, "+Inf": 4}
    assert value("claim_seconds_count", queue="gpu") == 4
    assert value("claim_seconds_sum", queue="gpu") == pytest.approx(4007.35)
    assert value("claim_seconds_count", queue="cpu") == 0
    assert value("retries_total", kind="score_shard", reason="job-crashed") == 1
    assert value("lost_leases_total", kind="score_shard") == 1
    assert value("tokens_total", kind="score_shard") == 1000
    assert 0 < value("disk_free_bytes", disk="uploads") <= value("disk_bytes", disk="uploads")
    assert CANARY not in (await client.get("/metrics")).text


async def test_a_queue_without_jobs_says_so(client: httpx.AsyncClient) -> None:
    series = await scrape(client)
    for queue in ("gpu", "cpu"):
        assert series["memaudit_queue_oldest_seconds", frozenset({("queue", queue)})] == 0
        assert series["memaudit_queue_running_jobs", frozenset({("queue", queue)})] == 0


@pytest.mark.usefixtures("busy")
async def test_a_database_that_is_away_is_told_and_not_the_numbers_of_before(
    client: httpx.AsyncClient,
    settings: Settings,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_load, "_FRESH_SECONDS", 0)
    assert ("memaudit_database_up", frozenset()) in await scrape(client)
    name = sql.Identifier(settings.require_database_url().partition("?")[0].rpartition("/")[2])
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [name.as_string()[1:-1]],
        )
        try:
            series = await scrape(client)
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    assert series["memaudit_database_up", frozenset()] == 0
    assert not [name for name, _ in series if name.startswith(("memaudit_queue", "memaudit_recent"))]
    assert (await scrape(client))["memaudit_database_up", frozenset()] == 1


async def test_a_scrape_waits_for_no_slow_statement(
    client: httpx.AsyncClient, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_load, "_STATEMENT_SECONDS", 0.2)
    with database.transaction():
        database.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        series = await scrape(client)
    assert series["memaudit_database_up", frozenset()] == 0


async def test_a_scrape_waits_for_no_connection(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where requests hold the whole pool, the numbers are absent, but the process is still there."""
    monkeypatch.setattr(service_load, "_READING_SECONDS", 0.2, raising=False)
    async with AsyncExitStack() as held, asyncio.timeout(10):
        for _ in range(2 * settings.database_pool_size):
            await held.enter_async_context(app.state.store.engine.connect())
        series = await scrape(client)
    assert series["memaudit_database_up", frozenset()] == 0


@pytest.mark.usefixtures("busy")
def test_every_reading_of_jobs_is_by_an_index(settings: Settings, database: psycopg.Connection) -> None:
    engine = sync_engine(settings.require_database_url())
    said: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *args: said.append((args[2], args[3])))
    with Session(engine) as session:
        read_load(session, timeout_seconds=2)
    engine.dispose()
    database.execute("SET enable_seqscan = off")
    readings = [(statement, values) for statement, values in said if "FROM jobs" in statement]
    assert len(readings) == 3
    for statement, values in readings:
        plan = "\n".join(row[0] for row in database.execute(f"EXPLAIN {statement}", values))
        assert "Seq Scan" not in plan, plan


async def test_a_method_that_a_client_made_up_is_no_label(client: httpx.AsyncClient) -> None:
    await client.request("CANARY", "/healthz")
    text = (await client.get("/metrics")).text
    assert "CANARY" not in text
    assert 'method="other"' in text


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression that ships, with where it is from."""
    for group in yaml.safe_load((DOCKER / "monitoring" / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DOCKER / "monitoring" / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")
    autoscaling = DOCKER / "kubernetes" / "autoscaling"
    for scaled in yaml.safe_load_all((autoscaling / "keda" / "scaled-objects.yaml").read_text()):
        for trigger in scaled["spec"]["triggers"]:
            yield scaled["metadata"]["name"], trigger["metadata"]["query"]
    for scaled in yaml.safe_load_all((autoscaling / "hpa" / "autoscalers.yaml").read_text()):
        for metric in scaled["spec"]["metrics"]:
            labels = metric["external"]["metric"]["selector"]["matchLabels"].items()
            matchers = ", ".join(f'{name}="{value}"' for name, value in labels)
            yield scaled["metadata"]["name"], f"{metric['external']['metric']['name']}{{{matchers}}}"


def parts_of(expression: Any) -> list[Any]:
    match expression:
        case promql_parser.VectorSelector() | promql_parser.NumberLiteral():
            return []
        case promql_parser.MatrixSelector():
            return [expression.vector_selector]
        case promql_parser.BinaryExpr():
            return [expression.lhs, expression.rhs]
        case promql_parser.Call():
            return list(expression.args)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            return [expression.expr]
        case _:
            raise AssertionError(f"say how to read {type(expression)}")


def used(expression: Any) -> Iterator[tuple[set[str], set[str]]]:
    """The names of metrics below each part of an expression, with the labels that the part uses of them."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield {expression.name}, {each.name for each in expression.matchers.matchers}
        return
    inner = [found for part in parts_of(expression) for found in used(part)]
    yield from inner
    modifier = getattr(expression, "modifier", None)
    # `by (…)` of an aggregation, `on (…)` between two sides.
    labels = getattr(modifier, "matching", modifier)
    if labels is not None:
        yield _names(inner), set(labels.labels)


def _names(parts: list[tuple[set[str], set[str]]]) -> set[str]:
    return set().union(*(names for names, _ in parts))


def missing(expression: str, told: dict[str, set[str]]) -> list[str]:
    """What an expression asks for that is not told."""
    wanting = []
    for names, labels in used(promql_parser.parse(expression)):
        for name in names:
            if name not in told:
                wanting.append(name)
            elif not labels <= told[name] | OF_THE_SCRAPE:
                wanting.append(f"{name}{sorted(labels - told[name])}")
    return wanting


@pytest.mark.usefixtures("busy")
async def test_all_that_is_asked_of_metrics_is_told(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/audits")).status_code == 200
    told: dict[str, set[str]] = {}
    for name, labels in await scrape(client):
        told.setdefault(name, set()).update(label for label, _ in labels)
    assert missing("sum by (colour) (rate(memaudit_jobs[5m]))", told)
    assert missing("memaudit_job", told)
    asked = list(expressions())
    assert len(asked) > 30
    assert not [(where, each) for where, expr in asked for each in missing(expr, told)]
    # And nothing is told of jobs and rooms that nobody looks at.
    names = {name for _, expr in asked for part, _ in used(promql_parser.parse(expr)) for name in part}
    ours = {name for name in told if name.startswith("memaudit_") and not name.startswith("memaudit_http")}
    counters = ("expired_leases", "webhook_attempts", "refused")
    born = {f"memaudit_{name}_created" for name in counters}
    assert ours - names - born == set()


def test_alerts_say_what_happened_and_what_to_do() -> None:
    (group,) = yaml.safe_load((DOCKER / "monitoring" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DOCKER / "monitoring" / "dashboard.json").read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
