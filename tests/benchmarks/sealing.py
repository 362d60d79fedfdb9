"""`python -m tests.benchmarks.sealing`: what it costs that texts and token evidence are sealed.

Two whole services on loopback, Postgres and all, of which one has AES-GCM taken out of its processes. The
same audits go through both in turn, and ratios are between neighbours. Beside the time that passed stands
the processor time of all processes of a service, which other work on the machine disturbs less.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import psutil

from tests.benchmarks.scoring_workload import build_micro_model, mixed_texts
from tests.benchmarks.service import SHARD_TOKENS, SHORT_CHARS, audit, timed, warm_up
from tests.deployments import Deployment, deployments
from tests.live_service import job_process
from tests.tiny_models import save_tiny_model

UNSEALED = Path(__file__).parent / "unsealed"
LIMIT = 1.05


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument(
        "--tiny", action="store_true", help="a model that costs next to nothing, beside which all else shows"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        build = save_tiny_model if asked.tiny else build_micro_model
        model = build(Path(directory) / "model")
        with deployments([model.parent]) as deploy:
            path = os.pathsep.join((str(UNSEALED), os.environ.get("PYTHONPATH", str(Path.cwd()))))
            services = {
                "sealed": deploy(lease_seconds=60, shard_tokens=SHARD_TOKENS),
                "not sealed": deploy(lease_seconds=60, shard_tokens=SHARD_TOKENS, PYTHONPATH=path),
            }
            compare(services, model, asked.texts, asked.repetitions)


def compare(services: dict[str, Deployment], model: Path, count: int, repetitions: int) -> None:
    """Audits of the same texts by each service in turn."""
    texts = mixed_texts(count, min_chars=SHORT_CHARS[0], max_chars=SHORT_CHARS[1])
    models = {}
    for name, deployment in services.items():
        deployment.service.start_worker()
        models[name] = deployment.service.register(model)
        warm_up(deployment.service, models[name])
    check_that_they_differ(services)
    wall: dict[str, list[float]] = {name: [] for name in services}
    processor: dict[str, list[float]] = {name: [] for name in services}
    for repetition in range(repetitions):
        # Whoever comes second finds the machine as the first left it, so that they take turns.
        for name in sorted(services, reverse=bool(repetition % 2)):
            before = processor_seconds(services[name])
            service = services[name].service
            wall[name].append(timed(lambda service=service, name=name: audit(service, models[name], texts)))  # type: ignore[misc]
            processor[name].append(processor_seconds(services[name]) - before)
    print(f"\n{count} texts of {SHORT_CHARS[0]}-{SHORT_CHARS[1]} characters, NL and token evidence")
    for what, seconds in (("wall", wall), ("processor", processor)):
        for name in services:
            spent = statistics.median(seconds[name])
            print(f"  {name:12} {what:10} {spent:8.2f} s   {count / spent:8.0f} texts/s")
        ratios = [one / other for one, other in zip(seconds["sealed"], seconds["not sealed"], strict=True)]
        low, high = min(ratios), max(ratios)
        print(
            f"  sealed / not {what:10} {statistics.median(ratios):8.3f}     ({low:.3f} to {high:.3f}; "
            f"at most {LIMIT})"
        )


def check_that_they_differ(services: dict[str, Deployment]) -> None:
    """Whether one stores in clear what the other seals: else nothing would be compared."""
    clear = "SELECT count(*) FROM texts WHERE position('the'::bytea IN sealed_text) > 0"
    found = {name: deployment.rows(clear)[0][0] for name, deployment in services.items()}
    assert found["sealed"] == 0 < found["not sealed"], found


def processor_seconds(deployment: Deployment) -> float:
    """What all processes of a deployment have used, and those that they have waited for."""
    service = deployment.service
    assert service.api.process is not None
    assert deployment.postgres.process is not None
    roots = [psutil.Process(each.process.pid) for each in (service.api, deployment.postgres)]  # type: ignore[union-attr]
    roots += [job_process(worker) for worker in service.workers]
    every = [*roots, *(child for root in roots for child in root.children(recursive=True))]
    spent = 0.0
    for process in every:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:  # its parent has counted it
            continue
        spent += used.user + used.system + used.children_user + used.children_system
    return spent


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
