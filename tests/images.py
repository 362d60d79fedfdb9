"""The images as their files describe them, and their commands as plain processes without a container."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers import free_port

DOCKER = Path(__file__).resolve().parents[1] / "docker"
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


class Containers:
    """The images' commands as plain processes: their environment, their secrets, our Postgres and Redis."""

    def __init__(self, secrets: Path, scratch: Path, models: Path, **environment: str) -> None:
        self.port = free_port()
        self._given = environment
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
            **self._given,
        }
        return [str(BIN / program), *arguments], environment

    def run(self, service: str, command: list[str] | None = None) -> str:
        arguments, environment = self.command(service, command)
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    def start(self, service: str, **environment: str) -> subprocess.Popen[bytes]:
        arguments, everywhere = self.command(service)
        return subprocess.Popen(arguments, env=everywhere | environment, cwd=self._scratch)


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
