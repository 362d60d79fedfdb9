"""Whole deployments for tests: a Postgres, a Redis and the service on them, all of which a test may kill."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from app.store.migrate import upgrade
from tests.live_service import LiveService
from tests.servers import temporary_layout

SHARD_TOKENS = 2048


@dataclass(frozen=True)
class Deployment:
    """A Postgres, a Redis and the service on them."""

    postgres: PostgresServer
    redis: RedisServer
    service: LiveService


class Deploy(Protocol):
    """Starts a deployment; the options are those of `LiveService`."""

    def __call__(self, **options: Any) -> Deployment: ...


@contextmanager
def deployments(model_roots: list[Path]) -> Iterator[Deploy]:
    """Start servers and an API as often as asked, and end all at last. Workers are started by the test."""
    with ExitStack() as running:

        def start(**options: Any) -> Deployment:
            postgres = running.enter_context(PostgresServer(running.enter_context(temporary_layout())))
            redis = running.enter_context(RedisServer(running.enter_context(temporary_layout())))
            upgrade(postgres.url)
            directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
            service = LiveService(
                directory,
                database_url=postgres.url,
                broker_url=redis.url,
                model_roots=model_roots,
                **{"lease_seconds": 2.0, "shard_tokens": SHARD_TOKENS, **options},
            )
            return Deployment(postgres, redis, running.enter_context(service))

        yield start
