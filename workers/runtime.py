"""What lives as long as a worker's child process: its settings, its database engine, its loaded models."""

import os
import socket
from dataclasses import dataclass
from functools import cache

from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings, get_settings
from app.store.sessions import sync_engine, sync_sessions
from workers.model_cache import ModelCache


@dataclass(frozen=True)
class Runtime:
    """The parts that jobs share within one process."""

    settings: Settings
    sessions: sessionmaker[Session]
    models: ModelCache
    name: str


@cache
def get_runtime() -> Runtime:
    """The runtime of this process, made when its first job begins (after the fork)."""
    settings = get_settings()
    engine = sync_engine(settings.require_database_url())
    return Runtime(
        settings=settings,
        sessions=sync_sessions(engine),
        models=ModelCache(settings),
        name=f"{socket.gethostname()}:{os.getpid()}",
    )
