"""`memaudit demo`: train a small suite, audit both models, edit the one that memorized, audit it again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from rich.console import Console

from app.cli.demo_edit import METRICS, PREFIX_TOKEN, edit_and_audit_again, ended, upload
from app.cli.demo_report import dose_response_table, gain_lines, heat_line
from app.cli.failures import ExitStatus, explained, fail
from app.cli.following import progress_bars
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, as_document, print_json
from app.cli.service import owner_key
from app.embedded.processes import end, spawn
from app.embedded.programs import local_url
from app.settings import Settings
from memaudit import Client
from memaudit.types import Audit

STANDARD: Final = "standard"
PERTURBED: Final = "perturbed"
_READY_SECONDS: Final = 180.0
_STOP: Final = (signal.SIGTERM, 60.0)


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Stop the service at the end.")] = False,
    size: Annotated[str, typer.Option(help="Size of the suite: nano or micro.")] = "nano",
    as_json: JSONFlag = False,
) -> None:
    """Train a small suite of models, audit them with the embedded service, and show what they memorized.

    With --json all that is shown goes to stderr, and stdout gets one document: the service's address, the
    audits of both models, the edit and the audit of the edited model.
    """
    screen = Console(stderr=as_json)
    with explained():
        home = Settings().home
        suite = home / "suites" / size
        _train(suite, size)
        with _service(home, suite.parent, screen) as url:
            with Client(url, owner_key(Settings())) as client:
                text_set = upload(client, suite / "texts.jsonl")
                audits = _audit_both(client, suite, text_set)
                _report(client, audits, screen)
                proof = edit_and_audit_again(client, suite, audits[PERTURBED], screen)
            if as_json:
                print_json(
                    {
                        "url": url,
                        "audits": {name: as_document(audit) for name, audit in audits.items()},
                        "edit": as_document(proof.edit),
                        "edited_model": os.fspath(proof.directory),
                        "audit_of_edited_model": as_document(proof.audit),
                    }
                )
            if once:
                return
            screen.print(f"The service goes on at [bold]{url}[/]; its contract is at {url}/docs.")
            screen.print(f"Your API key is in {Settings().api_key_path}. Stop with Ctrl-C.")
            _wait_for_interrupt()


def _train(suite: Path, size: str) -> None:
    command = [sys.executable, "-m", "workers.suite", "train", "--size", size, "--out", os.fspath(suite)]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - our own command
        raise fail("the suite could not be trained", ExitStatus.FAILED)


@contextmanager
def _service(home: Path, models: Path, screen: Console) -> Iterator[str]:
    """The URL of the embedded service of this home, which is started unless it runs already."""
    url = local_url(find_settings())
    if _is_ready(url):
        yield url
        return
    home.mkdir(parents=True, exist_ok=True)
    log = home / "demo-service.log"
    environment = os.environ | {"MEMAUDIT_HOME": os.fspath(home), "MEMAUDIT_MODEL_ROOTS": os.fspath(models)}
    command = [sys.executable, "-m", "app.cli", "up"]
    service = spawn(command, log=log, environment=environment, death_signal=signal.SIGTERM)
    try:
        with screen.status("Starting the service"):
            deadline = time.monotonic() + _READY_SECONDS
            while not _is_ready(url):
                if service.poll() is not None or time.monotonic() > deadline:
                    raise fail(f"the service did not start; see {log}", ExitStatus.FAILED)
                time.sleep(0.2)
        yield url
    finally:
        end(service, _STOP)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _audit_both(client: Client, suite: Path, text_set: str) -> dict[str, Audit]:
    """Audit the standard and the perturbed model on the suite's texts; the ended audits by name."""
    audits = {}
    for name in (STANDARD, PERTURBED):
        audits[name] = client.audits.create(
            model={"type": "path", "path": os.fspath(suite / name)},
            text_set=text_set,
            metrics=METRICS,
            options={"prefix_token": PREFIX_TOKEN},
        )
    with progress_bars(Console(stderr=True)) as progress:
        return {
            name: ended(client.audits, audit, progress, f"Auditing the {name} model")
            for name, audit in audits.items()
        }


def _report(client: Client, audits: dict[str, Audit], screen: Console) -> None:
    summaries = {name: audit.summary for name, audit in audits.items() if audit.summary}
    screen.print(dose_response_table(summaries))
    for line in gain_lines(summaries):
        screen.print(line)
    perturbed = audits[PERTURBED].id
    most = next(client.audits.scores(perturbed, sort="-nl", page_size=1))
    evidence = client.audits.tokens(perturbed, most.text_id)
    screen.print(heat_line(most, evidence))


def _wait_for_interrupt() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
