"""Real workers of both classes: one for `cpu` needs no torch, and one for `gpu` hears the bells of `cpu`.

Their clocks are an hour ahead: that must not matter.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.embedded.programs import worker_command
from app.maintenance.doorbell import Doorbell
from app.settings import Queue, Settings
from app.store.audits import Audit
from app.store.jobs.kinds import SUMMARIZE_AUDIT
from app.store.jobs.queue import add_job
from app.store.operations import OperationStatus
from app.store.throughput import WorkerClass
from tests.integration.test_summaries import add_rows
from tests.live_service import until
from tests.skewed_clock import build_skewed_clock, skewed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def without_torch(tmp_path: Path) -> Path:
    """A directory that, first on the path, makes torch and transformers impossible to import."""
    directory = tmp_path / "path"
    directory.mkdir()
    for name in ("torch", "transformers"):
        (directory / f"{name}.py").write_text(f"raise ImportError('{name} is not installed here')\n")
    return directory


@contextmanager
def worker(settings: Settings, queue: Queue, log: Path, *path: Path) -> Iterator[None]:
    """A worker as the command line starts it."""
    environment = os.environ | {
        "MEMAUDIT_HOME": str(log.parent),
        "MEMAUDIT_DATABASE_URL": settings.require_database_url(),
        "MEMAUDIT_BROKER_URL": settings.require_broker_url(),
        "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT))),
    }
    if library := build_skewed_clock(log.parent):
        environment |= skewed(library, seconds=3600)
    with log.open("wb") as output:
        process = subprocess.Popen(
            worker_command(queue, 1, "warning"), env=environment, stdout=output, stderr=output, cwd=log.parent
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def announced(sessions: sessionmaker[Session]) -> list[str]:
    with sessions() as session:
        return list(session.scalars(select(WorkerClass.queue)))


@pytest.mark.parametrize("queue", ["cpu", "gpu"])
def test_a_bell_of_the_queue_cpu_lets_a_worker_of_either_class_sum_an_audit_up(
    queue: Queue,
    settings: Settings,
    sessions: sessionmaker[Session],
    without_torch: Path,
    tmp_path: Path,
) -> None:
    audit_id = add_rows(sessions, "acme", texts=50, rows=50)
    with sessions.begin() as session:
        tenant_id = session.get_one(Audit, audit_id).tenant_id
        job = add_job(session, SUMMARIZE_AUDIT, tenant_id=tenant_id, owner_id=audit_id)
    assert job.queue == "cpu"
    doorbell = Doorbell(settings)
    doorbell.ring(job.queue)
    asyncio.run(doorbell.close())

    def ended() -> bool:
        with sessions() as session:
            return session.get_one(Audit, audit_id).status == OperationStatus.SUCCEEDED

    log = tmp_path / "worker.log"
    try:
        with worker(settings, queue, log, *([without_torch] if queue == "cpu" else [])):
            until(ended, "the audit has succeeded")
            until(lambda: announced(sessions) == [queue], "the worker has said that it is there")
    except AssertionError:
        raise AssertionError(log.read_text()) from None
    assert "Traceback" not in log.read_text()
    with sessions() as session:
        summary = session.get_one(Audit, audit_id).summary
    assert summary is not None
    assert (summary["texts"], summary["tokens"]) == (50, 500)
