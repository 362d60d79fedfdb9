"""The images' commands on TCP with TLS and passwords, every process replaced in the middle of an audit."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError

from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from app.maintenance.doorbell import Doorbell
from app.settings import Settings
from tests.images import DOCKER, Containers, ready
from tests.live_service import TERMINAL, fresh_key, until
from tests.servers import free_port, temporary_layout
from tests.tls_servers import Authority, make_authority, tls_in_front_of

TEXTS = 200


@dataclass(frozen=True)
class Servers:
    """A Postgres and a Redis behind TLS: where they are in the clear, and as the service is told."""

    postgres: PostgresServer
    redis: RedisServer
    authority: Authority
    secrets: Path


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    secrets = tmp_path / "secrets"
    subprocess.run([DOCKER / "make-secrets", secrets], check=True)
    authority = make_authority(tmp_path / "authority")
    started: list[Any] = []
    with temporary_layout() as layout, ExitStack() as running:
        for name, server_class, tail in (
            ("memaudit_database_url", PostgresServer, "?sslmode=verify-full&sslrootcert={}"),
            ("memaudit_broker_url", RedisServer, ""),
        ):
            url = urlsplit((secrets / name).read_text())
            server = running.enter_context(server_class(layout, port=free_port(), password=url.password))
            postgres = server_class is PostgresServer
            front = tls_in_front_of(server.port, authority.context(), postgres=postgres)
            port = running.enter_context(front)
            scheme = "postgresql" if postgres else "rediss"
            netloc = f"{url.username}:{url.password}@127.0.0.1:{port}"
            moved = url._replace(scheme=scheme, netloc=netloc).geturl()
            (secrets / name).write_text(moved + tail.format(authority.certificate))
            started.append(server)
        yield Servers(*started, authority, secrets)


def test_servers_that_another_authority_vouches_for_are_refused(servers: Servers, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    elsewhere = make_authority(tmp_path / "elsewhere", host="127.0.0.2")
    database_url = (servers.secrets / "memaudit_database_url").read_text()
    with psycopg.connect(database_url) as connection:
        assert connection.pgconn.ssl_in_use
    for refused in (
        database_url.replace(str(servers.authority.certificate), str(other.certificate)),
        database_url.replace(urlsplit(database_url).password or "", "wrong"),
    ):
        with pytest.raises(psycopg.OperationalError, match=r"certificate verify failed|password"):
            psycopg.connect(refused)

    broker_url = (servers.secrets / "memaudit_broker_url").read_text()

    def ring(url: str, authority: Authority | None) -> None:
        ca_file = authority and authority.certificate
        doorbell = Doorbell(Settings(broker_url=url, broker_ca_file=ca_file))
        with doorbell._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)

    ring(broker_url, servers.authority)
    refusals = (OperationalError, redis.exceptions.ConnectionError)
    # By default the system's authorities count, and not whoever answers.
    for authority in (None, other):
        with pytest.raises(refusals, match="certificate verify failed"):
            ring(broker_url, authority)
    with tls_in_front_of(servers.redis.port or 0, elsewhere.context(), postgres=False) as port:
        for_another = f"rediss://:{servers.redis.password}@127.0.0.1:{port}/0"
        with pytest.raises(refusals, match="certificate"):
            ring(for_another, elsewhere)


@dataclass
class Deployment:
    """Two API processes and a worker, each of which can be replaced; clients are sent to those `serving`."""

    containers: Containers
    ports: tuple[int, int]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    serving: set[int] = field(default_factory=set)

    def start_api(self, number: int) -> None:
        port = self.ports[number]
        self.running[f"api-{number}"] = self.containers.start("api", MEMAUDIT_PORT=str(port))
        ready(f"http://127.0.0.1:{port}/readyz", self.running[f"api-{number}"])
        self.serving.add(port)

    def replace_api(self, number: int) -> None:
        """As an orchestrator does: nobody is sent there any more, it is stopped, and another one started."""
        self.serving.discard(self.ports[number])
        time.sleep(0.2)
        self.stop(f"api-{number}")
        self.start_api(number)

    def start_worker(self, name: str) -> None:
        self.running[name] = self.containers.start("worker")

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(40)


@pytest.fixture
def deployment(servers: Servers, tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Deployment]:
    containers = Containers(
        servers.secrets,
        tmp_path,
        tiny_checkpoint.parent,
        MEMAUDIT_BROKER_CA_FILE=str(servers.authority.certificate),
        MEMAUDIT_LEASE_SECONDS="5",
        MEMAUDIT_SHARD_TOKENS="1024",
    )
    containers.run("migrate")
    deployment = Deployment(containers, (free_port(), free_port()))
    yield deployment
    for process in deployment.running.values():
        process.kill()
        process.wait()


@contextmanager
def asked_all_the_time(deployment: Deployment, key: str, path: str) -> Iterator[list[str]]:
    """Send requests to all that serve, one after the other; the port and the status of each answer."""
    answered: list[str] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
            while not done.is_set():
                for port in sorted(deployment.serving):
                    response = client.get(f"http://127.0.0.1:{port}{path}")
                    answered.append(f"{port} {response.status_code}")
                time.sleep(0.05)

    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001 - it is raised by the test
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield answered
    finally:
        done.set()
        thread.join()
    assert not failed


@pytest.mark.chaos
def test_every_process_is_replaced_in_the_middle_of_an_audit(
    deployment: Deployment, servers: Servers, tiny_checkpoint: Path, audited_texts: list[dict[str, Any]]
) -> None:
    key = deployment.containers.run("api", ["memaudit", "keys", "create"]).strip()
    for number in (0, 1):
        deployment.start_api(number)
    deployment.start_worker("worker-0")
    urls = [f"http://127.0.0.1:{port}" for port in deployment.ports]
    clients = [
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) for url in urls
    ]
    texts = [{**text, "id": str(number)} for number, text in enumerate(audited_texts[:TEXTS])]
    text_set = clients[0].post("/v1/text-sets", json={"name": "texts", "texts": texts}).json()["id"]
    source = {"type": "path", "path": str(tiny_checkpoint)}

    def request_audit(number: int) -> str:
        body = {"model": source, "text_set": text_set}
        response = clients[number].post("/v1/audits", json=body, headers=fresh_key())
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def rows(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(servers.postgres.url) as connection:
            return connection.execute(query).fetchall()

    def shards(state: str) -> int:
        query = f"SELECT count(*) FROM jobs WHERE kind = 'score_shard' AND state = '{state}'"
        return int(rows(query)[0][0])

    audits = [request_audit(0)]
    until(lambda: shards("succeeded") > 0, "the audit is under way", 120)
    with asked_all_the_time(deployment, key, f"/v1/audits/{audits[0]}") as answered:
        deployment.start_worker("worker-1")
        deployment.stop("worker-0")
        assert shards("queued") + shards("running") > 0, "the audit is still under way"
        for number in (0, 1):
            # What is accepted by a process just before it is stopped is kept.
            audits.append(request_audit(number))
            deployment.replace_api(number)
    assert {status for _, status in map(str.split, answered)} == {"200"}
    assert {int(port) for port, _ in map(str.split, answered)} == set(deployment.ports)

    found = []
    for audit in audits:
        until(
            lambda audit=audit: clients[1].get(f"/v1/audits/{audit}").json()["status"] in TERMINAL,
            f"{audit} has ended",
            180,
        )
        ended = clients[0].get(f"/v1/audits/{audit}").json()
        assert (ended["status"], ended["progress"]["done"]) == ("succeeded", TEXTS), ended
        page = clients[1].get(f"/v1/audits/{audit}/scores", params={"limit": 1000}).json()["data"]
        found.append([(row["text_id"], row["nl"]) for row in page])
    # Each text once, and the same numbers whoever was replaced meanwhile.
    assert [text_id for text_id, _ in found[0]] == [str(number) for number in range(TEXTS)]
    assert found[0] == found[1] == found[2]
    assert rows("SELECT count(*), count(DISTINCT (audit_id, ordinal)) FROM token_evidence") == [
        (TEXTS, TEXTS)
    ]
    assert rows("SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded')") == [(0,)]
    for client in clients:
        client.close()
    for name in list(deployment.running):
        deployment.stop(name)
