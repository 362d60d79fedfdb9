"""`python -m tests.benchmarks.estimates`: the time that audits take against what a dry run says they will.

One audit calibrates a fresh service with one worker; then audits of different size are estimated and run, one
after the other. Everything is real: Postgres, Redis, API and worker as processes. The time is that from the
request to the end, as the service records them.
"""

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.limits import Line, print_and_exit
from tests.benchmarks.scoring_workload import build_micro_model, mixed_texts
from tests.deployments import deployments
from tests.live_service import LiveService

SHARD_TOKENS: Final = 8192
METRICS: Final = ["nl", "extraction"]
# Two shards and a bit: what a job costs by itself shows where their sizes differ.
CALIBRATION: Final = (125, 40, 1000)
# Texts, and the fewest and the most characters of each.
SIZES: Final = (
    (5, 200, 400),
    (10, 40, 1000),
    (20, 40, 1000),
    (200, 40, 200),
    (40, 40, 1000),
    (10, 2000, 4000),
    (60, 40, 1000),
    (100, 40, 1000),
    (150, 40, 1000),
    (300, 40, 1000),
)
MOST: Final = 1.5


def main() -> None:
    """Run and print."""
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = build_micro_model(Path(directory) / "micro")
        with deployments([checkpoint.parent]) as deploy:
            service = deploy(lease_seconds=60, shard_tokens=SHARD_TOKENS).service
            service.start_worker()
            model = service.register(checkpoint)
            service.model(model)
            run(service, model, service.upload(texts_of(CALIBRATION, seed=100)))
            print(f"\n{'texts':>6} {'tokens':>8} {'estimated':>10} {'taken':>8} {'ratio':>6}")
            worst = max(estimate_and_run(service, model, size, seed) for seed, size in enumerate(SIZES))
    print_and_exit([Line("The most that an estimate is off", f"{worst:.2f}", f"<= {MOST}", worst <= MOST)])


def estimate_and_run(service: LiveService, model: str, size: tuple[int, int, int], seed: int) -> float:
    """Ask what an audit will take, run it, print both; by which factor the first is off, at least 1."""
    text_set = service.upload(texts_of(size, seed))
    body = {"model": model, "text_set": text_set, "metrics": METRICS}
    answer = service.client.post("/v1/audits", params={"dry_run": True}, json=body)
    (worker,) = answer.raise_for_status().json()["by_worker_class"]
    taken, tokens = run(service, model, text_set)
    ratio = float(worker["seconds"]) / taken
    print(f"{size[0]:6} {tokens:8} {worker['seconds']:8.2f} s {taken:6.2f} s {ratio:6.2f}", flush=True)
    return max(ratio, 1 / ratio)


def run(service: LiveService, model: str, text_set: str) -> tuple[float, int]:
    """Run an audit: the seconds that it took, and its tokens."""
    audit = service.end_of(service.audit(model, text_set, metrics=METRICS), seconds=1200)
    assert audit["status"] == "succeeded", audit["error"]
    began, ended = (datetime.fromisoformat(audit[name]) for name in ("created_at", "finished_at"))
    return (ended - began).total_seconds(), audit["summary"]["tokens"]


def texts_of(size: tuple[int, int, int], seed: int) -> list[dict[str, Any]]:
    """So many texts of so many characters."""
    count, fewest, most = size
    return [{"text": text} for text in mixed_texts(count, seed, fewest, most)]


if __name__ == "__main__":
    main()
