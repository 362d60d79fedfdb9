"""Real Postgres and Redis for every test that asks for them."""

import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import hypothesis
import psycopg
import pytest
from psycopg import sql

from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from app.store.core.migrate import upgrade
from tests.scheduling import FilesTogether, is_costly
from tests.servers import temporary_layout

TEMPLATE = "template_memaudit"
REDIS_DATABASES = range(1, 64)
# Whoever asks first for a costly fixture waits while models are trained and edited for it.
COSTLY_SECONDS = 900

# What is computed here is so small that a second thread only takes the core from the process beside this one.
# Processes that tests start inherit it. Torch, OpenBLAS and pyarrow read it when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes is a matter of what else the machine does.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

# Commands are interrupted in tests. A run started in the background ignores Ctrl-C, and so would they.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and give it its time."""
    items.sort(key=lambda item: not is_costly(item.path))
    for item in items:
        if is_costly(item.path):
            item.add_marker(pytest.mark.timeout(COSTLY_SECONDS))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    return FilesTogether(config, log)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres for the whole run. A test that kills or stops it starts it again."""
    with temporary_layout() as layout, PostgresServer(layout) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            # Killed processes lose nothing without fsync; only a crash of the machine would.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for the whole run. A test that kills or stops it starts it again."""
    with temporary_layout() as layout, RedisServer(layout) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of a database that holds every migration and no rows."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    upgrade(postgres_server.url_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def database_numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def database_url(
    postgres_server: PostgresServer, migrated_template: str, database_numbers: Iterator[int]
) -> Iterator[str]:
    """The URL of a fresh, migrated database; whoever is still connected after the test is sent away.

    It is left behind until the server ends: dropping it would cost a checkpoint.
    """
    name = f"test_{next(database_numbers)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(migrated_template)))
    yield postgres_server.url_of(name)
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )


@pytest.fixture(scope="session")
def redis_databases() -> Iterator[int]:
    return itertools.cycle(REDIS_DATABASES)


@pytest.fixture
def broker_url(redis_server: RedisServer, redis_databases: Iterator[int]) -> Iterator[str]:
    """The URL of an empty Redis database that no other test uses meanwhile."""
    number = next(redis_databases)
    yield redis_server.url_of(number)
    with redis_server.client(number) as client:
        client.flushdb()


@pytest.fixture
def any_hub() -> Iterator[None]:
    """Let this process ask any hub: a job that ran in it has pinned it to one, if it asked for a model."""
    from huggingface_hub import set_client_factory  # noqa: PLC0415 - most tests need none of it
    from huggingface_hub.utils._http import default_client_factory  # noqa: PLC0415

    from workers.hub import pin_hub  # noqa: PLC0415

    for ends in (False, True):
        set_client_factory(default_client_factory)
        pin_hub.cache_clear()
        if not ends:
            yield
