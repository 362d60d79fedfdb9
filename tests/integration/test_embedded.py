"""`memaudit up` as a whole: order, stop, death, restart, one at a time, as root and as an ordinary user."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.servers import (
    RunningService,
    memaudit_up,
    ordinary_account,
    python_as_ordinary_user,
    temporary_home,
)


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as made:
        yield made


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one too
        return ""


def commands(processes: list[psutil.Process]) -> str:
    return "\n".join(map(command_of, processes))


def works_in(home: Path, process: psutil.Process) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(home)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def still_runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; it may end while it is asked."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left_behind(home: Path, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that still run, and whoever else works in the home."""
    alive = [process for process in processes if still_runs(process)]
    return alive + [process for process in psutil.process_iter() if works_in(home, process)]


def assert_nothing_is_left(home: Path, processes: list[psutil.Process]) -> None:
    """Processes that the kernel ends with their parents take a moment on a busy machine."""
    assert wait_until(lambda: not left_behind(home, processes), 15), commands(left_behind(home, processes))


def upload_a_text(url: str, key: str) -> str:
    answer = httpx.post(
        f"{url}/v1/text-sets",
        json={"name": "kept", "texts": [{"text": "Kept across a restart."}]},
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def read_text_set(url: str, key: str, text_set: str) -> httpx.Response:
    return httpx.get(
        f"{url}/v1/text-sets/{text_set}", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )


def read_signing_keys_of(url: str) -> list[str]:
    keys = httpx.get(f"{url}/.well-known/memaudit-keys.json", trust_env=False).json()["keys"]
    assert len(keys) == 1
    return [key["kid"] for key in keys]


def test_nothing_is_left_after_kill_9_and_the_data_are_there_after_a_restart(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMAUDIT_MASTER_KEY")
    with memaudit_up(home) as service:
        key = service.key
        (signing_key,) = (home / "signing-keys").iterdir()
        (master_key,) = (home / "master-keys").iterdir()
        for secret in (home / "api-key", signing_key, master_key):
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        published = read_signing_keys_of(service.url)
        text_set = upload_a_text(service.url, key)
        started = family(service.process)
        for part in ("postgres", "redis-server", "celery", "app.serving"):
            assert part in commands(started)
        service.process.kill()
        service.process.wait()
        assert_nothing_is_left(home, started)
    with memaudit_up(home) as service:
        assert service.key == key
        assert read_signing_keys_of(service.url) == published
        assert read_text_set(service.url, key, text_set).json()["text_count"] == 1
        texts = read_text_set(service.url, key, f"{text_set}/texts")
        assert len(texts.json()["data"]) == 1, texts.text


def assert_a_signal_stops_everything(service: RunningService, sent: signal.Signals) -> None:
    started = family(service.process)
    service.process.send_signal(sent)
    output, _ = service.process.communicate(timeout=30)
    assert "Stopped." in output
    assert service.process.returncode == 0
    assert_nothing_is_left(service.home, started)
    assert "database system is shut down" in (service.home / "logs" / "postgres.log").read_text()
    assert not (service.home / "service.env").exists()
    assert list((service.home / "run").iterdir()) == []


def test_a_second_up_is_refused_and_the_first_goes_on_until_it_is_interrupted(home: Path) -> None:
    with memaudit_up(home) as service:
        refused = subprocess.run(
            [sys.executable, "-m", "app.cli", "up", "--home", home, "--port", "0"],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        assert refused.returncode == 1
        assert f"already runs on {home} (process {service.process.pid})" in refused.stderr
        assert httpx.get(f"{service.url}/healthz", trust_env=False).is_success
        assert_a_signal_stops_everything(service, signal.SIGINT)


def test_what_dies_is_started_again_at_the_same_place_until_all_is_terminated(home: Path) -> None:
    parts = ("celery", "app.serving", "redis-server", "bin/postgres")

    def pids(part: str) -> set[int]:
        return {each.pid for each in family(service.process) if part in command_of(each)}

    def all_started_again() -> bool:
        return all(pids(part) - killed for part in parts)

    def serves() -> bool:
        try:
            return read_text_set(service.url, service.key, text_set).is_success
        except httpx.TransportError:
            return False

    with memaudit_up(home) as service:
        text_set = upload_a_text(service.url, service.key)
        killed = set().union(*map(pids, parts))
        assert len(killed) >= len(parts)
        for pid in killed:
            with suppress(ProcessLookupError):  # a child that went with its parent
                os.kill(pid, signal.SIGKILL)
        assert wait_until(all_started_again, 60)
        assert wait_until(serves, 30)
        assert_a_signal_stops_everything(service, signal.SIGTERM)


def test_up_runs_as_an_ordinary_user(home: Path) -> None:
    python = python_as_ordinary_user()
    if python is None:
        pytest.skip("nobody without rights can run a Python here that has our packages")
    user = os.geteuid() or ordinary_account().uid
    os.chown(home, user, -1)
    with memaudit_up(home, python=python, environment={**os.environ, "HOME": os.fspath(home)}) as service:
        assert {process.uids().effective for process in family(service.process)} == {user}
        text_set = upload_a_text(service.url, service.key)
        assert read_text_set(service.url, service.key, text_set).is_success
        started = family(service.process)
        service.process.kill()
        service.process.wait()
        assert_nothing_is_left(home, started)


def test_a_taken_port_is_named_before_anything_starts(home: Path, taken_port: int) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "app.cli", "up", "--home", home, "--port", str(taken_port)],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken_port}" in refused.stderr
    assert not (home / "postgres" / "data").exists()


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]
