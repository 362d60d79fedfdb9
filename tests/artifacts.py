"""Artifacts for tests, written past the HTTP service."""

import os
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.store.artifacts import Artifact, add_artifact
from app.store.blobs.writing import BlobStore
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.tenants import Tenant
from workers.models.artifact_files import store_directory


def make_artifact(
    database_url: str,
    directory: Path,
    *,
    name: str = "edited",
    tenant: str = "acme",
    location: str = "postgres:",
) -> Artifact:
    """An artifact of a directory's files, as an edit leaves it."""
    engine = sync_engine(database_url)
    try:
        sessions = sync_sessions(engine)
        files = store_directory(BlobStore(location, sessions), directory)
        with sessions.begin() as session:
            session.execute(insert(Tenant).values(name=tenant).on_conflict_do_nothing())
            tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == tenant)).one()
            return add_artifact(session, tenant_id, name, files)
    finally:
        engine.dispose()


def random_file(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path
