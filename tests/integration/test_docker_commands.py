"""The commands of the images, run without a container engine against servers on TCP with passwords."""

import base64
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from tests.images import (
    BIN,
    COMPOSE,
    DOCKER,
    OUR_SERVICES,
    Containers,
    dockerfile_of,
    image_environment,
    instructions,
    ready,
)
from tests.servers import free_port, temporary_layout
from tests.tiny_models import save_tiny_model


@pytest.mark.parametrize("dockerfile", ["api.Dockerfile", "worker.Dockerfile"])
def test_images_pass_a_linter(dockerfile: str) -> None:
    linted = subprocess.run(
        [BIN / "hadolint", DOCKER / dockerfile], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


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


def test_there_is_a_place_for_signing_keys_that_the_api_may_write_to() -> None:
    place = f"{image_environment('api')['MEMAUDIT_HOME']}/signing-keys"
    volumes = dict(each.split(":")[:2] for each in COMPOSE["services"]["api"]["volumes"])
    (volume,) = [name for name, target in volumes.items() if target == place]
    assert volume in COMPOSE["volumes"]
    # A volume takes over the owner of what the image has in its place.
    assert any(
        f"install -d -o memaudit -g memaudit -m 700 {place}" in run
        for run in instructions("api.Dockerfile", "RUN")
    )


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
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    # As of a release that needed fewer.
    for name in ("memaudit_master_key", "memaudit_database_url", "memaudit_broker_url"):
        (secrets / name).unlink()
    for _ in range(2):
        subprocess.run([DOCKER / "make-secrets", secrets], check=True)
    after = {path.name: path.read_text() for path in secrets.iterdir()}
    master_key = after.pop("memaudit_master_key")
    assert len(base64.b64decode(master_key, validate=True)) == 32
    assert before.pop("memaudit_master_key") != master_key
    assert after == before


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
