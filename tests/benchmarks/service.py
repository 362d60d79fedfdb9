"""`python -m tests.benchmarks.service`: what the service costs on top of the scorer, and how it scales.

Everything is real: Postgres, Redis, API and workers as processes, HTTP on loopback. Ratios are between runs
of one invocation on the same machine.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import httpx

from tests.benchmarks.scoring_workload import build_micro_model, mixed_texts
from tests.deployments import Deployment, deployments
from tests.live_service import LiveService, fresh_key
from workers.science.models.loading import load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts

SHORT_TEXTS = 20_000
SHORT_CHARS = (20, 60)
SCALING_TEXTS = 4_000
SHARD_TOKENS = 65_536
SCALING_SHARD_TOKENS = 16_384
REPETITIONS = 3
REQUEST_SECONDS = 5.0
CLIENTS = 8
NL_ONLY = ScoringOptions(metrics=frozenset())


def main() -> None:
    """Run and print all benchmarks of the service."""
    with tempfile.TemporaryDirectory() as directory:
        model = build_micro_model(Path(directory) / "micro")
        with deployments([model.parent]) as deploy:
            measure_overhead(deploy(lease_seconds=60, shard_tokens=SHARD_TOKENS), model)
        with deployments([model.parent]) as deploy:
            measure_requests(deploy(lease_seconds=60))
        with deployments([model.parent]) as deploy:
            measure_scaling(deploy(lease_seconds=60, shard_tokens=SCALING_SHARD_TOKENS), model)


def measure_overhead(deployment: Deployment, model: Path) -> None:
    """Texts a second through POST, worker and Postgres, against the bare scorer on the same texts."""
    service = deployment.service
    service.start_worker()
    model_id = service.register(model)
    warm_up(service, model_id)
    texts = mixed_texts(SHORT_TEXTS, min_chars=SHORT_CHARS[0], max_chars=SHORT_CHARS[1])
    bare, served = [], []
    for _ in range(REPETITIONS):
        bare.append(in_fresh_process(score_bare, model, texts))
        served.append(timed(lambda: audit(service, model_id, texts)))
    ratios = [without / with_service for without, with_service in zip(bare, served, strict=True)]
    print(f"\n{SHORT_TEXTS} texts of {SHORT_CHARS[0]}-{SHORT_CHARS[1]} characters, NL and token evidence")
    print(f"  bare scorer                  {SHORT_TEXTS / statistics.median(bare):10.0f} texts/s")
    print(f"  POST -> worker -> Postgres   {SHORT_TEXTS / statistics.median(served):10.0f} texts/s")
    print(f"  service / bare               {statistics.median(ratios):10.2f}   (at least 0.7)")


def measure_requests(deployment: Deployment) -> None:
    """Requests a second of POST and GET of audits, without a worker."""
    service = deployment.service
    text_set = service.upload([{"text": "one text"}])
    model = service.register({"type": "hub", "repo": "acme/never-validated"})
    audit_id = service.audit(model, text_set)

    async def post(client: httpx.AsyncClient) -> None:
        body = {"model": model, "text_set": text_set}
        (await client.post("/v1/audits", json=body, headers=fresh_key())).raise_for_status()

    async def get(client: httpx.AsyncClient) -> None:
        (await client.get(f"/v1/audits/{audit_id}")).raise_for_status()

    print(f"\nRequests of {CLIENTS} clients to one API process")
    for name, request in (("POST /v1/audits", post), ("GET /v1/audits/{id}", get)):
        rate, slowest = asyncio.run(request_rate(service, request))
        print(f"  {name:28} {rate:10.0f} requests/s, p99 {slowest * 1000:.0f} ms")


async def request_rate(
    service: LiveService, request: Callable[[httpx.AsyncClient], object]
) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of their seconds."""
    seconds: list[float] = []
    headers = {"Authorization": f"Bearer {service.key}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers) as client:
        deadline = time.perf_counter() + REQUEST_SECONDS

        async def send_until_deadline() -> None:
            while (began := time.perf_counter()) < deadline:
                await request(client)  # type: ignore[misc]
                seconds.append(time.perf_counter() - began)

        await asyncio.gather(*(send_until_deadline() for _ in range(CLIENTS)))
    return len(seconds) / REQUEST_SECONDS, statistics.quantiles(seconds, n=100)[98]


def measure_scaling(deployment: Deployment, model: Path) -> None:
    """One audit by one worker pinned to a core, and by two workers pinned to a core each."""
    service = deployment.service
    texts = mixed_texts(SCALING_TEXTS)
    first = service.start_worker(cpu=0)
    model_id = service.register(model)
    warm_up(service, model_id)
    one = [timed(lambda: audit(service, model_id, texts)) for _ in range(REPETITIONS)]
    service.start_worker(cpu=1)
    warm_up(service, model_id, audits=8)
    two = [timed(lambda: audit(service, model_id, texts)) for _ in range(REPETITIONS)]
    assert first.running
    speed_up = statistics.median(one) / statistics.median(two)
    print(f"\n{SCALING_TEXTS} texts of 40-1000 characters, workers pinned to a core each")
    print(f"  one worker                   {statistics.median(one):10.1f} s")
    print(f"  two workers                  {statistics.median(two):10.1f} s")
    print(f"  one / two                    {speed_up:10.2f}   (at least 1.7)")


def audit(service: LiveService, model_id: str, texts: list[str]) -> None:
    """Upload texts and audit them to the end."""
    text_set = service.upload([{"text": text} for text in texts])
    ended = service.end_of(service.audit(model_id, text_set), seconds=600)
    assert ended["status"] == "succeeded", ended


def warm_up(service: LiveService, model_id: str, audits: int = 1) -> None:
    """Let every worker load the model."""
    text_set = service.upload([{"text": text} for text in mixed_texts(400)])
    for audit_id in [service.audit(model_id, text_set) for _ in range(audits)]:
        assert service.end_of(audit_id)["status"] == "succeeded"


def score_bare(model: Path, texts: list[str]) -> float:
    """Seconds that the scorer alone takes, its model loaded and warm."""
    language_model = load_language_model(model)
    inputs = [TextInput(text) for text in texts]
    score_texts(language_model, inputs[:400], NL_ONLY)
    return timed(lambda: score_texts(language_model, inputs, NL_ONLY))


def in_fresh_process(function: Callable[..., float], *arguments: object) -> float:
    """Run a function where no threads or memory of another run remain."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
