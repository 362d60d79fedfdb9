"""The part of `/metrics` that is read from the database: it is the same from every API process."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.settings import SERVED_BY
from app.store.core.unit_of_work import Store
from app.store.counters import CLAIM_BUCKETS, CLAIM_SECONDS, CLAIMS, LOST_LEASES, RETRIES, TOKENS, Count
from app.store.jobs.load import EndedJobs, Load, OpenJobs, read_load
from app.store.webhook_deliveries import Backlog

log = structlog.get_logger()

Labels = tuple[str, ...]

# A reading is shared by all who ask within this time, and no statement of it takes long. All of it, with the
# wait for a connection, ends before Prometheus would give up by default.
_FRESH_SECONDS: Final = 5.0
_STATEMENT_SECONDS: Final = 2.0
_READING_SECONDS: Final = 8.0
# What workers count: the name, what it means, and its labels.
_COUNTED: Final[Mapping[str, tuple[str, Labels]]] = {
    LOST_LEASES: ("Jobs of which a living worker found that they were given to another.", ("kind",)),
    RETRIES: ("Attempts that ended without a result and are followed by another.", ("kind", "reason")),
    TOKENS: ("Tokens that went through a language model.", ("kind",)),
}


class ServiceLoad(Collector):
    """Jobs that wait, run and ended lately, and the room that is left.

    What could not be read is not shown, so that nobody acts on the numbers of before.

    Args:
        artifact_store: the place of artifacts, whose disk counts if it is one.
    """

    def __init__(self, artifact_store: str) -> None:
        self._disks = {"uploads": Path(tempfile.gettempdir())}
        if artifact_store.startswith("file:"):
            self._disks["artifacts"] = Path(urlsplit(artifact_store).path)
        self._reading = asyncio.Lock()
        self._read_at: float | None = None
        self._load: Load | None = None

    async def refresh(self, store: Store) -> None:
        """Read the database, unless that was done a moment ago."""
        async with self._reading:
            if self._read_at is not None and time.monotonic() - self._read_at < _FRESH_SECONDS:
                return
            try:
                async with asyncio.timeout(_READING_SECONDS):
                    self._load = await store.run(read_load, timeout_seconds=_STATEMENT_SECONDS)
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("load_not_read", error=type(error).__name__)
                self._load = None
            self._read_at = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """The metrics of the last reading."""
        yield _gauge(
            "database_up", "Whether the database answered in time.", (), {(): float(self._load is not None)}
        )
        yield from _disks(self._disks)
        if self._load is not None:
            yield _gauge("database_bytes", "Size of the database.", (), {(): self._load.database_bytes})
            yield from _open(self._load.open)
            waiting: dict[Labels, float] = {
                (problem,): count for problem, count in self._load.waiting.items()
            }
            yield _gauge("waiting_jobs", "Jobs that wait for what is away.", ("problem",), waiting)
            yield from _ended(self._load.ended)
            yield from _undelivered(self._load.webhooks)
            yield _claims(self._load.counts)
            yield from _counted(self._load.counts)


def _gauge(name: str, meaning: str, labels: Labels, values: Mapping[Labels, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"memaudit_{name}", meaning, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _disks(directories: Mapping[str, Path]) -> Iterator[GaugeMetricFamily]:
    usages = {name: shutil.disk_usage(path) for name, path in directories.items() if path.exists()}
    sizes: dict[Labels, float] = {(name,): usage.total for name, usage in usages.items()}
    free: dict[Labels, float] = {(name,): usage.free for name, usage in usages.items()}
    yield _gauge("disk_bytes", "Size of the disk that something lies on.", ("disk",), sizes)
    yield _gauge("disk_free_bytes", "Room that is left on it.", ("disk",), free)


def _open(jobs: list[OpenJobs]) -> Iterator[GaugeMetricFamily]:
    # A queue without jobs shows zeros: what scales by it must not take silence for an answer.
    queues: dict[Labels, float] = {(queue,): 0.0 for queue in SERVED_BY}
    claimable, running, expired, oldest = queues, dict(queues), dict(queues), dict(queues)
    for each in jobs:
        queue = (each.queue,)
        claimable[queue] += each.claimable
        running[queue] += each.jobs if each.state == "running" else 0
        expired[queue] += each.expired
        oldest[queue] = max(oldest.get(queue, 0.0), each.oldest_seconds)
    counts: dict[Labels, float] = {(each.queue, each.kind, each.state): each.jobs for each in jobs}
    yield _gauge("jobs", "Open jobs.", ("queue", "kind", "state"), counts)
    yield _gauge("queue_claimable_jobs", "Jobs that a worker could claim now.", ("queue",), claimable)
    yield _gauge("queue_oldest_seconds", "For how long the oldest of them could be.", ("queue",), oldest)
    yield _gauge("queue_running_jobs", "Jobs that are leased to a worker.", ("queue",), running)
    yield _gauge("queue_expired_jobs", "Those of them whose lease ran out.", ("queue",), expired)


def _undelivered(webhooks: Backlog) -> Iterator[GaugeMetricFamily]:
    for name, meaning, value in (
        ("webhooks_pending", "Webhooks that have not been delivered.", webhooks.pending),
        ("webhooks_oldest_seconds", "Age of the oldest of them.", webhooks.oldest_seconds),
        (
            "webhooks_overdue_seconds",
            "For how long the oldest could have been sent to a receiver that is well.",
            webhooks.overdue_seconds,
        ),
    ):
        yield _gauge(name, meaning, (), {(): value})


def _ended(jobs: list[EndedJobs]) -> Iterator[GaugeMetricFamily]:
    counts: dict[Labels, float] = {}
    timed: dict[Labels, int] = {}
    seconds: dict[Labels, float] = {}
    for each in jobs:
        key = (each.kind, each.state)
        counts[key] = counts.get(key, 0) + each.jobs
        timed[key] = timed.get(key, 0) + each.timed
        seconds[key] = seconds.get(key, 0.0) + each.seconds
    means = {key: seconds[key] / number for key, number in timed.items() if number}
    failed: dict[Labels, float] = {
        (each.kind, each.problem): each.jobs for each in jobs if each.state == "failed"
    }
    labels = ("kind", "state")
    yield _gauge("recent_jobs", "Jobs that ended in the last ten minutes.", labels, counts)
    yield _gauge("recent_job_seconds", "Mean seconds of those from claim to end.", labels, means)
    yield _gauge("recent_failed_jobs", "Those that were given up, and why.", ("kind", "problem"), failed)


def _claims(counts: Mapping[Count, float]) -> HistogramMetricFamily:
    """For how long jobs could be claimed until they were, by the class of worker that they need."""
    family = HistogramMetricFamily(
        "memaudit_claim_seconds", "Seconds from when a job could be claimed until it was.", labels=("queue",)
    )
    for queue in sorted(SERVED_BY):
        so_far, buckets = 0.0, []
        for bucket in (*map(str, CLAIM_BUCKETS), "+Inf"):
            so_far += counts.get(Count(CLAIMS, (queue, bucket)), 0.0)
            buckets.append((bucket, so_far))
        family.add_metric((queue,), buckets, counts.get(Count(CLAIM_SECONDS, (queue,)), 0.0))
    return family


def _counted(counts: Mapping[Count, float]) -> Iterator[CounterMetricFamily]:
    for name, (meaning, labels) in _COUNTED.items():
        family = CounterMetricFamily(f"memaudit_{name}", meaning, labels=labels)
        for count, value in sorted(counts.items()):
            if count.name == name:
                family.add_metric(count.labels, value)
        yield family
