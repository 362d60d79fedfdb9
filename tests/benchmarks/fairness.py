"""`python -m tests.benchmarks.fairness`: a tenant's ten texts while another's 200,000 are scored.

Everything is real: Postgres, Redis, an API and two workers as processes. A tenant has ten texts audited
again and again, new ones each time, first on an idle service and then beside another tenant's long audit, of
another language model. The same with `/v1/score`. Both workers have the tenant's language model in memory.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from tests.benchmarks.limits import Line, print_and_exit
from tests.benchmarks.load import batched
from tests.benchmarks.scoring_workload import build_micro_model, mixed_texts
from tests.deployments import deployments
from tests.live_service import TERMINAL, LiveService, fresh_key, make_key, until

FEW_TEXTS: Final = 10
WORKERS: Final = 2
MOST_TIMES_AS_LONG: Final = 3.0
# How long the tenant pauses at most between two requests, so that it comes at any moment of a shard.
PAUSE_SECONDS: Final = 4.0


def main() -> None:
    """Measure, print, and end with 1 if the limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=200_000, help="of the long audit")
    parser.add_argument("--repeats", type=int, default=20, help="of the short ones, each way")
    parser.add_argument("--turn-seconds", type=float, default=60.0)
    parser.add_argument("--shard-tokens", type=int, default=65_536)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        with deployments([models]) as deploy:
            service = deploy(
                lease_seconds=60.0,
                shard_tokens=arguments.shard_tokens,
                MEMAUDIT_TURN_SECONDS=str(arguments.turn_seconds),
            ).service
            for _ in range(WORKERS):
                service.start_worker()
            print_and_exit(measured(service, models, arguments))


def measured(service: LiveService, models: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Times on the idle service, and beside the long audit."""
    large = Tenant(service, "large", build_micro_model(models / "large"))
    small = Tenant(service, "small", build_micro_model(models / "small"))
    for _ in range(2 * WORKERS):
        small.audit_few()
        small.score_few()
    idle = times_of(small, arguments.repeats)
    long_audit = large.request(large.upload(large.texts(arguments.texts)))
    until(lambda: large.read(long_audit)["progress"]["done"] > 0, "the long audit is being scored", 600)
    beside = times_of(small, arguments.repeats)
    audit = large.read(long_audit)
    assert audit["status"] == "running", audit
    print(f"  The long audit is at {audit['progress']['done']} of {arguments.texts} texts.")
    for name in idle:
        alone, together = statistics.median(idle[name]), statistics.median(beside[name])
        print(f"  {name}: longest {max(idle[name]):.2f} s alone, {max(beside[name]):.2f} s beside")
        yield Line(
            f"{name} of {FEW_TEXTS} texts, {together:.2f} s beside {arguments.texts}, {alone:.2f} s alone",
            f"{together / alone:.1f} x",
            f"at most {MOST_TIMES_AS_LONG:.0f} x",
            together <= MOST_TIMES_AS_LONG * alone,
        )


class Tenant:
    """A tenant with a language model of its own."""

    def __init__(self, service: LiveService, name: str, model: Path) -> None:
        self._client = service.client_for(make_key(service.database_url, tenant=name))
        self._count = 0
        self.model = self._post("/v1/models", {"source": {"type": "path", "path": str(model)}})["id"]
        until(lambda: self._client.get(f"/v1/models/{self.model}").json()["status"] == "ready", "it is ready")

    def texts(self, count: int) -> list[str]:
        """Texts that the tenant never had before."""
        some = mixed_texts(min(count, 5000))
        self._count += count
        return [f"{self._count + place}. {some[place % len(some)]}" for place in range(count)]

    def upload(self, texts: list[str]) -> str:
        """Store texts; the id of the set."""
        lines = (json.dumps({"text": each}).encode() + b"\n" for each in texts)
        answer = self._client.post(
            "/v1/text-sets",
            params={"name": "texts"},
            content=(b"".join(part) for part in batched(lines)),
            headers={"Content-Type": "application/jsonl"},
        )
        return str(answer.raise_for_status().json()["id"])

    def request(self, text_set: str) -> str:
        """Request an audit; its id."""
        return str(self._post("/v1/audits", {"model": self.model, "text_set": text_set})["id"])

    def read(self, audit: str, wait: float = 0) -> dict[str, Any]:
        """An audit as it is now, or once it has ended."""
        answer = self._client.get(f"/v1/audits/{audit}", params={"wait": wait})
        return dict(answer.raise_for_status().json())

    def audit_few(self) -> float:
        """Have a few new texts audited; the seconds from the request to its end."""
        text_set = self.upload(self.texts(FEW_TEXTS))
        began = time.perf_counter()
        audit = self.request(text_set)
        while (found := self.read(audit, wait=30))["status"] not in TERMINAL:
            pass
        assert found["status"] == "succeeded", found
        return time.perf_counter() - began

    def score_few(self) -> float:
        """Have a few new texts scored while one waits; the seconds."""
        texts = [{"text": each} for each in self.texts(FEW_TEXTS)]
        began = time.perf_counter()
        answer = self._post("/v1/score", {"model": self.model, "texts": texts, "timeout": 60})
        assert answer["object"] == "score_list", answer
        return time.perf_counter() - began

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._client.post(path, json=body, headers=fresh_key(), timeout=httpx.Timeout(300))
        return answer.raise_for_status().json()


def times_of(tenant: Tenant, repeats: int) -> dict[str, list[float]]:
    """The seconds of each kind of short request, one after another."""
    ways: dict[str, Callable[[], float]] = {"an audit": tenant.audit_few, "/v1/score": tenant.score_few}
    times: dict[str, list[float]] = {name: [] for name in ways}
    dice = random.Random(0)
    for _ in range(repeats):
        for name, way in ways.items():
            time.sleep(dice.uniform(0, PAUSE_SECONDS))
            times[name].append(way())
    return times


if __name__ == "__main__":
    main()
