"""What lives as long as a worker's child process: its settings, its database engine, its loaded models."""

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings, get_settings
from app.store.blobs.writing import BlobStore
from app.store.core.sessions import sync_engine, sync_sessions
from workers.models.artifact_files import ArtifactCache
from workers.models.cache import ModelCache
from workers.models.checkpoints import Checkpoints
from workers.running.turns import Turns


@dataclass(frozen=True)
class Runtime:
    """The parts that jobs share within one process."""

    settings: Settings
    sessions: sessionmaker[Session]
    blobs: BlobStore
    checkpoints: Checkpoints
    models: ModelCache
    turns: Turns
    name: str


@cache
def get_runtime() -> Runtime:
    """The runtime of this process, made when its first job begins (after the fork)."""
    return make_runtime(get_settings())


def make_runtime(settings: Settings) -> Runtime:
    """A runtime of its own for these settings."""
    sessions = sync_sessions(sync_engine(settings.require_database_url()))
    blobs = BlobStore(settings.artifact_store, sessions)
    artifacts = ArtifactCache(
        settings.home / "artifact-cache", sessions, blobs, kept=timedelta(days=settings.cache_days)
    )
    checkpoints = Checkpoints(settings, artifacts)
    return Runtime(
        settings=settings,
        sessions=sessions,
        blobs=blobs,
        checkpoints=checkpoints,
        models=ModelCache(settings, checkpoints),
        turns=Turns(settings.turn_seconds),
        name=f"{socket.gethostname()}:{os.getpid()}",
    )
