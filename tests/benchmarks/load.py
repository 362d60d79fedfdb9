"""`python -m tests.benchmarks.load`: what the service carries while a worker scores, and how it refuses more.

Everything is real: `memaudit up` with its Postgres, Redis, worker and API, and an open-loop client in a
process of its own (`open_loop`). Figures of processor time are those of the processes of the service.
"""

import argparse
import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

from tests.benchmarks.export_memory import measure_export
from tests.benchmarks.limits import Line, print_and_exit
from tests.benchmarks.open_loop import Outcome, Plan, Requests, offer, quantile
from tests.benchmarks.scoring_workload import build_micro_model, mixed_texts
from tests.live_service import fresh_key
from tests.servers import RunningService, memaudit_up

POSTS_A_SECOND: Final = 100.0
GETS_A_SECOND: Final = 300.0
P99_SECONDS: Final = 0.5
OVERLOADED_P99_SECONDS: Final = 1.0
OVERLOAD: Final = 3.0
# Clients that wait for their answers, enough to find out what the service carries and too few to be refused.
CLIENTS: Final = 16
# Of the audit that keeps the worker busy: more than it scores meanwhile.
SCORED_A_SECOND: Final = 1000
PROGRAMS: Final = {"postgres": "postgres", "app.serving": "api", "celery": "worker", "redis-server": "redis"}


@dataclass(frozen=True)
class Target:
    """A running service: where requests go, with which key, and what is audited."""

    service: RunningService
    client: httpx.Client
    model: str
    text_set: str
    busy: str

    def plan(self, seconds: float, *requests: Requests) -> Plan:
        """A plan for this service."""
        parts = urlsplit(self.service.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return Plan(parts.hostname, parts.port, self.service.key, seconds, requests)

    def posts(self, **how: float) -> Requests:
        """Requests for audits."""
        body = {"model": self.model, "text_set": self.text_set}
        return Requests("POST /v1/audits", "POST", ["/v1/audits"], body, **how)  # type: ignore[arg-type]

    def gets(self, **how: float) -> Requests:
        """Readings of audits: of the one that is being scored, and of some that wait."""
        listed = self.client.get("/v1/audits", params={"limit": 50}).json()["data"]
        paths = [f"/v1/audits/{audit}" for audit in [self.busy, *(each["id"] for each in listed)]]
        return Requests("GET /v1/audits/{id}", "GET", paths, **how)  # type: ignore[arg-type]

    def scored(self) -> int:
        """How many texts of the audit that keeps the worker busy are scored."""
        audit = self.client.get(f"/v1/audits/{self.busy}").raise_for_status().json()
        assert audit["status"] == "running", audit
        return int(audit["progress"]["done"])


def main() -> None:
    """Measure, print, and end with 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement; 300 for the record")
    parser.add_argument("--overload-seconds", type=float, default=10.0, help="of each overload")
    parser.add_argument("--rows", type=int, default=100_000, help="exported; 1000000 for the record")
    parser.add_argument("--directory", type=Path, help="where the service keeps its data; a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        os.chmod(directory, 0o711)  # noqa: PTH101 - Postgres' account goes through it
        texts = int((2 * arguments.seconds + 5 * arguments.overload_seconds + 30) * SCORED_A_SECOND)
        with scoring_service(Path(directory), texts) as target:
            print_and_exit(lines(target, arguments))


def lines(target: Target, arguments: argparse.Namespace) -> Iterator[Line]:
    """All figures, each with its limit."""
    posts, gets = target.posts(rate=POSTS_A_SECOND), target.gets(rate=GETS_A_SECOND)
    for alone in (posts, gets):
        (outcome,) = measured(target, target.plan(arguments.seconds, alone))
        yield kept_to(outcome)
    print("  Both at once, which is told and has no limit:")
    measured(target, target.plan(arguments.overload_seconds, posts, gets))
    for requests in (target.posts, target.gets):
        yield from overloaded(target, requests, arguments.overload_seconds)
    yield measure_export(target.client, database_url(target.service), api_of(target.service), arguments.rows)


def overloaded(target: Target, requests: object, seconds: float) -> Iterator[Line]:
    """What the service carries of one kind of requests, and what it does with three times that."""
    (carried,) = measured(target, target.plan(seconds, requests(clients=CLIENTS)))  # type: ignore[operator]
    rate = len(carried.accepted) / seconds
    print(f"  {carried.name}: carries {rate:.0f}/s of {CLIENTS} clients that wait for their answers")
    (outcome,) = measured(target, target.plan(seconds, requests(rate=OVERLOAD * rate)))  # type: ignore[operator]
    p99 = quantile(outcome.accepted, 0.99)
    yield Line(
        f"{outcome.name} offered at {OVERLOAD:.0f} x {rate:.0f}/s: p99 of what is accepted",
        f"{p99 * 1000:.0f} ms",
        f"below {OVERLOADED_P99_SECONDS * 1000:.0f} ms, the surplus refused with Retry-After",
        p99 < OVERLOADED_P99_SECONDS and outcome.errors == 0 and bool(outcome.refused),
    )


def kept_to(outcome: Outcome) -> Line:
    """Whether all of what was offered was answered in time."""
    p99 = quantile(outcome.accepted, 0.99)
    return Line(
        f"{outcome.name}: p99",
        f"{p99 * 1000:.0f} ms, {outcome.errors + len(outcome.refused)} errors",
        f"below {P99_SECONDS * 1000:.0f} ms, 0 errors",
        p99 < P99_SECONDS and outcome.errors == 0 and not outcome.refused,
    )


def measured(target: Target, plan: Plan) -> list[Outcome]:
    """Carry out a plan; print what became of it, and what processor time it took."""
    scored, before, began = target.scored(), processor_seconds(target.service), time.perf_counter()
    outcomes = offer(plan)
    seconds, after = time.perf_counter() - began, processor_seconds(target.service)
    for outcome in outcomes:
        print(f"  {told(outcome, plan.seconds)}")
    spent = {name: after[name] - before[name] for name in after}
    answered = sum(len(outcome.accepted) for outcome in outcomes) or 1
    shares = ", ".join(f"{name} {each / seconds:.2f}" for name, each in spent.items())
    print(
        f"    cores: {shares}; api {1000 * spent['api'] / answered:.2f} ms and postgres "
        f"{1000 * spent['postgres'] / answered:.2f} ms an accepted request; the worker scored "
        f"{(target.scored() - scored) / seconds:.0f} texts/s",
        flush=True,
    )
    return outcomes


def told(outcome: Outcome, seconds: float) -> str:
    """A line of figures."""
    rates = [outcome.offered, len(outcome.accepted), len(outcome.refused)]
    offered, accepted, refused = (each / seconds for each in rates)
    figures = [quantile(outcome.accepted, share) * 1000 for share in (0.5, 0.99, 1.0)]
    accepted_ms = "p50 {:.0f} p99 {:.0f} max {:.0f} ms".format(*figures)
    text = f"{outcome.name:22} offered {offered:.0f}/s, accepted {accepted:.0f}/s: {accepted_ms}"
    text += f"; refused {refused:.0f}/s"
    if outcome.refused:
        text += f": p99 {quantile(outcome.refused, 0.99) * 1000:.0f} ms"
    text += f"; failed {outcome.failed or 0}, broken {outcome.broken}"
    return f"{text}; sent at most {outcome.latest_start * 1000:.0f} ms late"


def processor_seconds(service: RunningService) -> dict[str, float]:
    """What the processes of the service have used so far, by program."""
    found = dict.fromkeys(PROGRAMS.values(), 0.0)
    for child in psutil.Process(service.process.pid).children():
        times = [child.cpu_times(), *(each.cpu_times() for each in child.children(recursive=True))]
        # Children that have ended are counted by whoever waited for them.
        ended = times[0].children_user + times[0].children_system
        found[program_of(child)] += ended + sum(each.user + each.system for each in times)
    return found


def program_of(process: psutil.Process) -> str:
    """Which of the service's programs a process is."""
    line = " ".join(process.cmdline())
    return next(program for name, program in PROGRAMS.items() if name in line)


def api_of(service: RunningService) -> psutil.Process:
    """The API's process."""
    children = psutil.Process(service.process.pid).children()
    return next(child for child in children if program_of(child) == "api")


def database_url(service: RunningService) -> str:
    """Where the service keeps everything."""
    variables = dict(
        shlex.split(line)[0].split("=", 1) for line in (service.home / "service.env").read_text().splitlines()
    )
    return variables["MEMAUDIT_DATABASE_URL"]


@contextmanager
def scoring_service(directory: Path, texts: int) -> Iterator[Target]:
    """A service whose worker scores an audit of so many texts."""
    models = directory / "models"
    model = build_micro_model(models / "micro")
    environment = os.environ | {"MEMAUDIT_MODEL_ROOTS": str(models), "HF_HUB_OFFLINE": "1"}
    with (
        memaudit_up(directory / "home", environment=environment) as service,
        httpx.Client(
            base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, timeout=120
        ) as client,
    ):
        source = {"type": "path", "path": str(model)}
        answer = client.post("/v1/models", json={"source": source}, headers=fresh_key())
        model_id = answer.raise_for_status().json()["id"]
        many, one = upload(client, texts), upload(client, 1)
        busy = client.post("/v1/audits", json={"model": model_id, "text_set": many}, headers=fresh_key())
        busy_id = busy.raise_for_status().json()["id"]
        while client.get(f"/v1/audits/{busy_id}").json()["progress"]["done"] == 0:
            time.sleep(0.5)
        yield Target(service, client, model_id, one, busy_id)


def upload(client: httpx.Client, texts: int) -> str:
    """A set of so many slices of the Python manual."""
    some = mixed_texts(min(texts, 5000))
    lines = (json.dumps({"text": some[number % len(some)]}).encode() + b"\n" for number in range(texts))
    answer = client.post(
        "/v1/text-sets",
        params={"name": "texts"},
        content=(b"".join(part) for part in batched(lines)),
        headers={"Content-Type": "application/jsonl"},
        timeout=3600,
    )
    return str(answer.raise_for_status().json()["id"])


def batched(lines: Iterator[bytes], size: int = 1000) -> Iterator[list[bytes]]:
    """Some lines at a time."""
    while some := [line for line, _ in zip(lines, range(size), strict=False)]:
        yield some


if __name__ == "__main__":
    main()
