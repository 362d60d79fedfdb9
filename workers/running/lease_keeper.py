"""Keeps the lease of a running job alive, and tells the job when it is not wanted any more."""

import threading
import time
from multiprocessing.synchronize import Event as SharedEvent
from types import TracebackType
from typing import Self

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.jobs.leases import Lease, LeaseLost, heartbeat, is_held

log = structlog.get_logger()

# How often to look for a cancellation between two heartbeats.
_LOOK_SECONDS = 1.0


class Stopping(Exception):
    """The worker was asked to stop: the job goes back to the queue for another worker."""


class LeaseKeeper:
    """A context manager that extends a lease from a thread of its own while the job computes."""

    def __init__(
        self, sessions: sessionmaker[Session], settings: Settings, lease: Lease, stopping: SharedEvent
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._lease = lease
        self._stopping = stopping
        self._progress = 0
        self._stage: str | None = None
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)

    def __enter__(self) -> Self:
        """Start the heartbeat."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the heartbeat."""
        self._done.set()
        self._thread.join()

    def report(self, done: int, *, stage: str | None = None) -> None:
        """Note progress. Call it often: it is where a job learns that it should end.

        Args:
            done: texts of a shard, or per cent of an edit.
            stage: what an edit is busy with.

        Raises:
            LeaseLost: the job was taken away or cancelled.
            Stopping: the worker was asked to stop.
        """
        self._progress, self._stage = done, stage
        if self._lost.is_set():
            raise LeaseLost
        if self._stopping.is_set():
            raise Stopping

    def _keep(self) -> None:
        interval = min(_LOOK_SECONDS, self._settings.heartbeat_seconds)
        beat_at = time.monotonic() + self._settings.heartbeat_seconds
        shown: str | None = None
        while not self._done.wait(interval):
            # A new stage is shown at once; the rest of the progress comes with the next heartbeat.
            stage = self._stage
            due = time.monotonic() >= beat_at or stage != shown
            try:
                held = self._look(extend=due)
            except SQLAlchemyError as error:
                # The lease may outlive the outage; if it does not, the commit is refused.
                log.warning("heartbeat_failed", job=str(self._lease.job_id), error=type(error).__name__)
                continue
            if not held:
                self._lost.set()
                return
            if due:
                beat_at, shown = time.monotonic() + self._settings.heartbeat_seconds, stage

    def _look(self, *, extend: bool) -> bool:
        with self._sessions.begin() as session:
            if not extend:
                return is_held(session, self._lease)
            return heartbeat(
                session,
                self._lease,
                lease_seconds=self._settings.lease_seconds,
                progress=self._progress,
                stage=self._stage,
            )
