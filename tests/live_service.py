"""The service as real processes: an API and workers on a real Postgres and Redis, with a client."""

import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from app.embedded.programs import API_STOP, WORKER_STOP, Program, api_command, worker_command
from app.store.api_keys import create_key
from app.store.core.identifiers import new_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.tenants import ensure_tenant
from tests import confined_server
from tests.servers import free_port
from workers.confined.process import SERVER

# How long something that will happen is waited for, on a machine that is busy with other tests.
PATIENCE = 120.0

SCOPES = ["audit:read", "audit:write", "edit:read", "edit:write"]
TERMINAL = {"succeeded", "failed", "cancelled"}


def make_key(database_url: str, *, tenant: str = "acme", scopes: Sequence[str] = SCOPES) -> str:
    """A fresh API key of a tenant."""
    engine = sync_engine(database_url)
    with sync_sessions(engine).begin() as session:
        tenant_id = ensure_tenant(session, tenant)
        _, key = create_key(session, tenant_id, name=f"test {new_id()}", scopes=scopes)
    engine.dispose()
    return key


class LiveService:
    """One API and any number of workers, each a process of its own that a test may kill or pause."""

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str,
        broker_url: str,
        model_roots: Sequence[Path],
        lease_seconds: float = 3.0,
        shard_tokens: int = 65_536,
        **environment: str,
    ) -> None:
        self.directory = directory
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.database_url = database_url
        self._environment = os.environ | {
            "MEMAUDIT_HOME": str(directory),
            "MEMAUDIT_DATABASE_URL": database_url,
            "MEMAUDIT_BROKER_URL": broker_url,
            "MEMAUDIT_MODEL_ROOTS": ":".join(map(str, model_roots)),
            "MEMAUDIT_LEASE_SECONDS": str(lease_seconds),
            "MEMAUDIT_SHARD_TOKENS": str(shard_tokens),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **environment,
        }
        self.key = make_key(database_url)
        self.client = self.client_for(self.key)
        self.api = self._program("api", api_command("127.0.0.1", self._port), API_STOP)
        self.workers: list[Program] = []

    def __enter__(self) -> Self:
        """Start the API; workers are started by the test."""
        self.start_api()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything that still runs."""
        self.client.close()
        for program in (*self.workers, self.api):
            program.stop()

    def client_for(self, key: str) -> httpx.Client:
        """A client that sends a key."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE)

    def start_api(self) -> None:
        """Start the API and wait until it serves."""
        self.api.start()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                assert time.monotonic() < deadline, self.api.log.read_text()
            time.sleep(0.05)

    def start_worker(
        self, *, cpu: int | None = None, include: str | None = None, own_server: bool = False
    ) -> Program:
        """Start a worker, pinned to one processor if asked; it imports the module `include` too.

        Its confined processes come from the server of all workers here, unless it is to have its own.
        """
        command = worker_command("gpu", 1, "warning")
        included = [include] if include is not None else []
        if not own_server:
            included.append(confined_server.__name__)
            self._environment[confined_server.ADDRESS] = confined_server.shared_server()
        if included:
            command += ["--include", ",".join(included)]
        if cpu is not None:
            command = ["taskset", "--cpu-list", str(cpu), *command]
        worker = self._program(f"worker-{len(self.workers)}", command, WORKER_STOP)
        worker.start()
        self.workers.append(worker)
        return worker

    def upload(self, texts: Sequence[dict[str, Any]], name: str = "texts") -> str:
        """Store a text set; its id."""
        response = self.client.post("/v1/text-sets", json={"name": name, "texts": list(texts)})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def register(self, source: Path | dict[str, str]) -> str:
        """Register a checkpoint, a directory or another source; its id."""
        if isinstance(source, Path):
            source = {"type": "path", "path": str(source)}
        response = self.client.post("/v1/models", json={"source": source}, headers=fresh_key())
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def model(self, model_id: str) -> dict[str, Any]:
        """A language model once it has been validated."""
        path = f"/v1/models/{model_id}"
        until(lambda: self.client.get(path).json()["status"] != "queued", f"{model_id} is validated")
        return dict(self.client.get(path).json())

    def audit(self, model: str | dict[str, str], text_set: str, **fields: Any) -> str:
        """Request an audit; its id."""
        body = {"model": model, "text_set": text_set, **fields}
        response = self.client.post("/v1/audits", json=body, headers=fresh_key())
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def read(self, audit_id: str, wait: float = 0) -> dict[str, Any]:
        """An audit as it is now, or once it has ended."""
        response = self.client.get(f"/v1/audits/{audit_id}", params={"wait": wait})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def end_of(self, audit_id: str, seconds: float = 120) -> dict[str, Any]:
        """An audit once it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            audit = self.read(audit_id, wait=10)
            if audit["status"] in TERMINAL:
                return audit
        raise AssertionError(f"{audit} did not end; {self.logs()}")

    def scores(self, audit_id: str) -> list[dict[str, Any]]:
        """All score rows of an audit, in order."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            params = {"limit": 1000, **cursor}
            response = self.client.get(f"/v1/audits/{audit_id}/scores", params=params)
            assert response.status_code == 200, response.text
            page = response.json()
            rows += page["data"]
            if not page["has_more"]:
                return rows
            cursor = {"cursor": page["next_cursor"]}

    def logs(self) -> str:
        """What all processes have logged."""
        return "\n".join(program.log.read_text() for program in (self.api, *self.workers))

    def _program(self, name: str, command: Sequence[str], stop_steps: Any) -> Program:
        return Program(
            name,
            command,
            logs=self.directory,
            environment=self._environment,
            directory=self.directory,
            stop_steps=stop_steps,
        )


def fresh_key() -> dict[str, str]:
    """The header with a new idempotency key."""
    return {"Idempotency-Key": uuid.uuid4().hex}


def job_process(worker: Program) -> psutil.Process:
    """The forked child of a worker that runs its jobs."""
    assert worker.process is not None
    children = psutil.Process(worker.process.pid).children()
    (child,) = (each for each in children if SERVER not in each.cmdline())
    return child


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.02)
