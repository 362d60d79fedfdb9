"""`python -m tests.benchmarks.growth`: whether an audit of many texts costs more than its texts.

A `memaudit up` of its own for each number of texts, with a tiny random model beside which all else shows:
short texts are uploaded, audited and exported in every format. Of each process the peak is what Linux says
(VmHWM) once all is done. Texts a second are those from the request for the audit to its end.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import psycopg

from tests.benchmarks.export_memory import TYPES
from tests.benchmarks.limits import Line, print_and_exit
from tests.benchmarks.load import database_url, program_of
from tests.benchmarks.memory import lines as text_lines
from tests.live_service import SERVER, fresh_key
from tests.servers import RunningService, memaudit_up
from tests.tiny_models import save_tiny_model

MOST_GROWTH_MEGABYTES: Final = 100
LEAST_RATE: Final = 0.9
HOURS: Final = 3600.0
# Loads the model and whatever is imported when it is first needed.
WARM_UP: Final = 100

_PHASES: Final = """
    SELECT kind, count(*), extract(epoch FROM max(finished_at) - min(claimed_at))::float,
           extract(epoch FROM sum(finished_at - claimed_at))::float
    FROM jobs WHERE owner_id = (SELECT id FROM audits ORDER BY id DESC LIMIT 1) GROUP BY kind
"""
_AUDIT_SECONDS: Final = """
    SELECT extract(epoch FROM finished_at - created_at)::float FROM audits ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Run:
    """What one number of texts took: texts a second of the audit, and the peak of each process in MB."""

    rate: float
    peaks: dict[str, float]


def main() -> None:
    """Measure, print, and end with 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=100_000, help="1000000 for the record")
    parser.add_argument("--directory", type=Path, help="where the services keep their data; a temporary one")
    print_and_exit(growth(parser.parse_args()))


def growth(arguments: argparse.Namespace) -> Iterator[Line]:
    """Few texts, then many; by how much they differ."""
    few, many = (measured(texts, arguments.directory) for texts in (arguments.few, arguments.many))
    for name in ("api", "worker", "jobs", "tokenizer"):
        grown = many.peaks[name] - few.peaks[name]
        yield Line(
            f"{arguments.many} texts rather than {arguments.few}: peak of {name}",
            f"{grown:+.0f} MB",
            f"at most {MOST_GROWTH_MEGABYTES} MB more",
            grown <= MOST_GROWTH_MEGABYTES,
        )
    ratio = many.rate / few.rate
    yield Line(
        f"{arguments.many} texts rather than {arguments.few}: texts a second",
        f"{ratio:.2f} of {few.rate:.0f}/s",
        f"at least {LEAST_RATE}",
        ratio >= LEAST_RATE,
    )


def measured(texts: int, directory: Path | None) -> Run:
    """Upload, audit and export so many texts on a fresh service."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        os.chmod(place, 0o711)  # noqa: PTH101 - Postgres' account goes through it
        model = save_tiny_model(Path(place) / "models" / "tiny")
        environment = os.environ | {"MEMAUDIT_MODEL_ROOTS": str(model.parent), "HF_HUB_OFFLINE": "1"}
        with (
            memaudit_up(Path(place) / "home", environment=environment) as service,
            httpx.Client(
                base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, timeout=HOURS
            ) as client,
        ):
            source = {"type": "path", "path": str(model)}
            answer = client.post("/v1/models", json={"source": source}, headers=fresh_key())
            model_id = answer.raise_for_status().json()["id"]
            audit(client, model_id, upload(client, WARM_UP))
            return measure(service, client, model_id, texts)


def measure(service: RunningService, client: httpx.Client, model_id: str, texts: int) -> Run:
    """One audit from its texts to its export; prints the seconds of each phase and the peaks."""
    before = peaks(service)
    began = time.perf_counter()
    text_set = upload(client, texts)
    uploaded = time.perf_counter()
    ended = audit(client, model_id, text_set)
    assert ended["summary"]["texts"] == texts
    exporting = time.perf_counter()
    for media_type in TYPES:
        export(client, ended["id"], media_type)
    exported = time.perf_counter()
    with psycopg.connect(database_url(service).replace("+psycopg", "")) as connection:
        phases = connection.execute(_PHASES).fetchall()
        ((seconds,),) = connection.execute(_AUDIT_SECONDS).fetchall()
    print(
        f"  {texts} texts: uploaded in {uploaded - began:.1f} s, audited in {seconds:.1f} s, "
        f"exported in {exported - exporting:.1f} s"
    )
    for kind, jobs, span, busy in sorted(phases):
        print(f"    {kind}: {jobs} jobs, {span:.1f} s from first claim to last end, {busy:.1f} s in jobs")
    after = peaks(service)
    told = ", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f} MB" for name in after)
    print(f"    peaks: {told}", flush=True)
    return Run(texts / seconds, after)


def upload(client: httpx.Client, texts: int) -> str:
    """A set of so many short texts, as one stream."""
    answer = client.post(
        "/v1/text-sets",
        params={"name": "short texts"},
        content=text_lines(texts, labelled=False),
        headers={"Content-Type": "application/jsonl"},
    )
    return str(answer.raise_for_status().json()["id"])


def audit(client: httpx.Client, model_id: str, text_set: str) -> dict[str, Any]:
    """Audit a set to the end."""
    body = {"model": model_id, "text_set": text_set}
    found = client.post("/v1/audits", json=body, headers=fresh_key()).raise_for_status().json()
    while found["status"] in {"queued", "running"}:
        found = client.get(f"/v1/audits/{found['id']}", params={"wait": 30}).raise_for_status().json()
    assert found["status"] == "succeeded", found
    return dict(found)


def export(client: httpx.Client, audit_id: str, media_type: str) -> None:
    """Read all scores of an audit and keep none."""
    path = f"/v1/audits/{audit_id}/scores"
    with client.stream("GET", path, headers={"Accept": media_type}) as response:
        response.raise_for_status()
        for _ in response.iter_raw():
            pass


def peaks(service: RunningService) -> dict[str, float]:
    """The most resident memory that each process has had, in MB.

    `worker` is the one that waits for bells, `jobs` the one that runs jobs, `tokenizer` the largest of the
    confined ones. Those of Postgres share its buffers, which each counts: `postgres` is the largest of them.
    """
    found: dict[str, float] = {}

    def note(name: str, process: psutil.Process) -> None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except FileNotFoundError:  # a connection that was closed
            return
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status) or ["0"]
        found[name] = max(found.get(name, 0.0), int(kilobytes) / 1000)

    for child in psutil.Process(service.process.pid).children():
        program = program_of(child)
        note(program, child)
        for each in child.children(recursive=True):
            if program != "worker":
                note(program if program != "api" else "drawing", each)
            elif each.ppid() == child.pid and SERVER not in each.cmdline():
                note("jobs", each)
            else:
                note("tokenizer", each)
    return found


if __name__ == "__main__":
    main()
