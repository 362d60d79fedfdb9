"""What jobs share within one worker child process: its settings, its database engine, its loaded models."""

import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from app.sealing.keyring import Keyring
from app.settings import GPU_QUEUE, Queue, Settings, get_settings
from app.store.blobs.writing import BlobStore
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.counters import Counts
from app.store.data_keys import with_keyring
from app.store.throughput import Machine
from workers.running.machine import this_machine
from workers.running.throughput import Meter
from workers.running.turns import Turns

if TYPE_CHECKING:
    from workers.models.cache import ModelCache
    from workers.models.checkpoints import Checkpoints


@dataclass(frozen=True)
class Runtime:
    """The parts that jobs share within one process. A process that needs no language model needs no torch."""

    settings: Settings
    sessions: sessionmaker[Session]
    blobs: BlobStore
    turns: Turns
    name: str
    queue: Queue = GPU_QUEUE
    meter: Meter = field(default_factory=Meter)
    counts: Counts = field(default_factory=Counts)

    @cached_property
    def machine(self) -> Machine:
        """What this process runs on."""
        return this_machine(self.queue)

    @cached_property
    def checkpoints(self) -> "Checkpoints":
        """Where checkpoints lie on this worker's disk."""
        from workers.models.artifact_files import ArtifactCache  # noqa: PLC0415 - as the line below
        from workers.models.checkpoints import Checkpoints  # noqa: PLC0415 - not every worker has torch

        artifacts = ArtifactCache(
            self.settings.home / "artifact-cache",
            self.sessions,
            self.blobs,
            kept=timedelta(days=self.settings.cache_days),
        )
        return Checkpoints(self.settings, artifacts)

    @cached_property
    def models(self) -> "ModelCache":
        """The language models in memory."""
        from workers.models.cache import ModelCache  # noqa: PLC0415 - not every worker has torch

        return ModelCache(self.settings, self.checkpoints, self.meter)

    @property
    def loaded(self) -> list[UUID]:
        """The ids of the language models that are in memory now."""
        return self.models.loaded if "models" in vars(self) else []


@cache
def get_runtime(queue: Queue) -> Runtime:
    """The runtime of this process, a worker for a queue, made after the fork."""
    return make_runtime(get_settings(), queue)


def make_runtime(settings: Settings, queue: Queue = GPU_QUEUE) -> Runtime:
    """A runtime of its own for these settings."""
    engine = sync_engine(settings.require_database_url())
    sessions = sync_sessions(engine, with_keyring(Keyring(settings)))
    return Runtime(
        settings=settings,
        sessions=sessions,
        blobs=BlobStore(settings.artifact_store, sessions),
        turns=Turns(settings.turn_seconds),
        name=f"{socket.gethostname()}:{os.getpid()}",
        queue=queue,
    )
