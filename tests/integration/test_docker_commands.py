"""The commands of the images, run without a container engine against servers on TCP with passwords."""

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from tests.servers import free_port, temporary_layout
from tests.tiny_models import save_tiny_model

DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
OUR_SERVICES = ("migrate", "api", "worker")
BIN = Path(sys.executable).parent


def instructions(dockerfile: str, name: str) -> list[str]:
    """The arguments of each instruction of that name, with continued lines joined."""
    text = (DOCKER / dockerfile).read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


def dockerfile_of(service: str) -> str:
    return Path(COMPOSE["services"][service]["build"]["dockerfile"]).name


def command_of(service: str) -> list[str]:
    """What the container runs: the compose file's command, else the image's."""
    given = COMPOSE["services"][service].get("command")
    command: list[str] = given or json.loads(instructions(dockerfile_of(service), "CMD")[-1])
    return command


def image_environment(service: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in instructions(dockerfile_of(service), "ENV"))
    return dict(pairs) | (COMPOSE["services"][service].get("environment") or {})


@pytest.mark.parametrize("service", OUR_SERVICES)
def test_our_containers_run_without_rights_and_get_secrets_by_file(service: str) -> None:
    described = COMPOSE["services"][service]
    assert instructions(dockerfile_of(service), "USER")[-1] not in {"root", "0"}
    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert "memaudit_database_url" in described["secrets"]
    assert not [name for name in image_environment(service) if name.endswith(("_URL", "_PASSWORD", "_KEY"))]


@pytest.mark.parametrize("service", ["postgres", "redis", "api"])
def test_servers_have_health_checks(service: str) -> None:
    in_image = service in OUR_SERVICES and instructions(dockerfile_of(service), "HEALTHCHECK")
    assert in_image or COMPOSE["services"][service]["healthcheck"]["test"]


def test_the_api_image_has_no_torch() -> None:
    installed = [line for line in instructions("api.Dockerfile", "RUN") if "pip install" in line]
    assert installed
    assert not re.search(r"worker\]|torch", " ".join(installed))
    check = (
        "import sys, app.main, app.cli; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("dockerfile", ["api.Dockerfile", "worker.Dockerfile"])
def test_everything_that_an_image_copies_exists_and_is_not_ignored(dockerfile: str) -> None:
    admitted = {
        line[1:]
        for line in (DOCKER / f"{dockerfile}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in instructions(dockerfile, "COPY")
        if not line.startswith("--from")
        for source in shlex.split(line)[:-1]
    }
    assert copied == admitted
    assert not [source for source in copied if not (DOCKER.parent / source).exists()]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    subprocess.run([DOCKER / "make-secrets", directory], check=True)
    return directory


def test_secrets_are_closed_to_others_agree_with_each_other_and_are_never_replaced(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    declared = {Path(entry["file"]).name for entry in COMPOSE["secrets"].values()}
    assert {path.name for path in secrets.iterdir()} == declared
    database = urlsplit((secrets / "memaudit_database_url").read_text())
    broker = urlsplit((secrets / "memaudit_broker_url").read_text())
    assert database.password == (secrets / "postgres_password").read_text()
    assert f"requirepass {broker.password}" in (secrets / "redis_conf").read_text()
    assert {database.hostname, broker.hostname} <= set(COMPOSE["services"])
    assert COMPOSE["services"]["postgres"]["environment"]["POSTGRES_USER"] == database.username
    assert (
        subprocess.run([DOCKER / "make-secrets", secrets], capture_output=True, check=False).returncode == 1
    )


class Containers:
    """The images' commands as plain processes: their environment, their secrets, our Postgres and Redis."""

    def __init__(self, secrets: Path, scratch: Path, models: Path) -> None:
        self.port = free_port()
        self._secrets = secrets
        self._scratch = scratch
        self._models = models

    def command(self, service: str, command: list[str] | None = None) -> tuple[list[str], dict[str, str]]:
        program, *arguments = command or command_of(service)
        mounted = self._scratch / f"{service}-secrets"
        mounted.mkdir(exist_ok=True)
        for name in COMPOSE["services"][service]["secrets"]:
            (mounted / name).write_text((self._secrets / name).read_text())
        environment = image_environment(service) | {
            # What differs from the container: where things are.
            "PATH": f"{BIN}:{os.defpath}",
            "MEMAUDIT_HOME": str(self._scratch),
            "HF_HOME": str(self._scratch / "huggingface"),
            "MEMAUDIT_MODEL_ROOTS": str(self._models),
            "MEMAUDIT_SECRETS_DIRECTORY": str(mounted),
            "MEMAUDIT_PORT": str(self.port),
        }
        return [str(BIN / program), *arguments], environment

    def run(self, service: str, command: list[str] | None = None) -> str:
        arguments, environment = self.command(service, command)
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    def start(self, service: str) -> subprocess.Popen[bytes]:
        arguments, environment = self.command(service)
        return subprocess.Popen(arguments, env=environment, cwd=self._scratch)


@pytest.fixture
def containers(secrets: Path, tmp_path: Path) -> Iterator[Containers]:
    models = tmp_path / "models"
    save_tiny_model(models / "tiny")
    with temporary_layout() as layout, ExitStack() as running:
        for name, server_class in (
            ("memaudit_database_url", PostgresServer),
            ("memaudit_broker_url", RedisServer),
        ):
            url = urlsplit((secrets / name).read_text())
            port = free_port()
            running.enter_context(server_class(layout, port=port, password=url.password))
            moved = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{port}")
            (secrets / name).write_text(moved.geturl())
        yield Containers(secrets, tmp_path, models)


def test_an_audit_through_the_commands_of_the_images(containers: Containers, tmp_path: Path) -> None:
    containers.run("migrate")
    key = containers.run("api", ["memaudit", "keys", "create"]).strip()
    api, worker = containers.start("api"), containers.start("worker")
    try:
        ready(f"http://127.0.0.1:{containers.port}/readyz", api)
        texts = tmp_path / "texts.jsonl"
        texts.write_text(json.dumps({"text": "Audited through the images' commands."}) + "\n")
        environment = {
            "PATH": os.defpath,
            "MEMAUDIT_API_KEY": key,
            "MEMAUDIT_URL": f"http://127.0.0.1:{containers.port}",
        }
        audit = subprocess.run(
            [BIN / "memaudit", "audit", "--model", tmp_path / "models" / "tiny", "--texts", texts],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert audit.returncode == 0, audit.stderr
        assert "1 texts, 0 not scored" in audit.stdout
    finally:
        # As a container engine stops them.
        for process in (api, worker):
            process.send_signal(signal.SIGTERM)
        api.wait(timeout=30)
        worker.wait(timeout=30)
    assert worker.returncode == 0


def ready(url: str, api: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert api.poll() is None
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the API was not ready in a minute")
