"""What can be made again is not kept for ever: curvature factors, and artifacts on a worker's disk."""

import fcntl
import os
import time
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.maintenance.retention import collect
from app.settings import Settings
from app.store.blobs.writing import BlobStore
from app.store.core.sessions import async_engine
from app.store.core.unit_of_work import Store
from app.store.factors import StoredFactor
from tests.artifacts import make_artifact, random_file
from tests.integration.rows import add_tenant
from workers.models.artifact_files import ArtifactCache

KEPT = timedelta(days=2)
DAY = 86_400.0


@pytest.fixture
def cache(sessions: sessionmaker[Session], tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache", sessions, BlobStore("postgres:", sessions), kept=KEPT)


def test_an_artifact_that_nobody_used_for_long_leaves_the_disk(
    cache: ArtifactCache, database_url: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    directories = {}
    artifacts = {}
    for name in ("old", "recent", "used"):
        source = tmp_path / name
        source.mkdir()
        random_file(source / "file", 100)
        artifacts[name] = make_artifact(database_url, source, name=name)
        directories[name], _ = cache.materialize(artifacts[name].tenant_id, artifacts[name].id)
    half_fetched = tmp_path / "cache" / f"{'0' * 64}.fetching"
    half_fetched.mkdir()
    in_use = directories["old"].with_suffix(".lock").open("w")
    fcntl.flock(in_use, fcntl.LOCK_EX)
    now = time.time()
    for directory, days in ((half_fetched, 3), (directories["old"], 3), (directories["recent"], 1)):
        os.utime(directory, (now - days * DAY, now - days * DAY))
    os.utime(directories["used"], (now - 3 * DAY, now - 3 * DAY))
    cache.materialize(artifacts["used"].tenant_id, artifacts["used"].id)
    left = {path for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert left == {directories["recent"], directories["used"], directories["old"]}  # the last is in use
    in_use.close()
    cache.materialize(artifacts["used"].tenant_id, artifacts["used"].id)
    left = {path for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert left == {directories["recent"], directories["used"]}
    again, _ = cache.materialize(artifacts["old"].tenant_id, artifacts["old"].id)
    assert (again / "file").read_bytes() == (tmp_path / "old" / "file").read_bytes()


async def test_old_factors_are_forgotten(
    sessions: sessionmaker[Session], database: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    stored = BlobStore("postgres:", sessions).put_file(random_file(tmp_path / "factor", 100))
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        for side in ("activations", "gradients"):
            session.add(
                StoredFactor(
                    tenant_id=tenant_id, key="k", projection="up", side=side, tokens=1, sha256=stored[0]
                )
            )
    database.execute(
        "UPDATE factors SET created_at = clock_timestamp() - interval '3 days' WHERE side = 'gradients'"
    )
    engine = async_engine(database_url, pool_size=1)
    await collect(Store(engine), Settings(cache_days=2))
    await engine.dispose()
    assert database.execute("SELECT side FROM factors").fetchall() == [("activations",)]
