"""`python -m tests.benchmarks.proof SUITE`: what the proof of an edit takes, stage by stage.

The perturbed model of a suite (`memaudit suite train --size nano --out SUITE`) is edited with full `stress`
and the standard one as its reference model. Everything is real: Postgres, Redis, API and worker as processes.
Beside seconds stand those of processors, which other work on the machine lengthens less.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

import psutil

from tests.benchmarks.limits import Line, print_and_exit
from tests.deployments import deployments
from tests.edit_requests import request
from tests.live_service import TERMINAL, LiveService, job_process

MOST_SECONDS: Final = 180.0
# What is inserted so often is memorized, as far as a suite of this size memorizes.
MEMORIZED: Final = 16
STAGES: Final = {"stressing", "reading_layers", "generating", "relearning", "comparing_reference"}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", type=Path)
    suite = parser.parse_args().suite.absolute()
    with deployments([suite]) as deploy:
        service = deploy(lease_seconds=60).service
        worker = service.start_worker()
        body = edit_of(service, suite)
        seen = followed(service, request(service, body), job_process(worker))
    total, used = (sum(side) for side in zip(*seen.values(), strict=True))
    missing = sorted(STAGES - seen.keys())
    print_and_exit(
        [
            Line(
                "An edit with full stress",
                f"{total:.0f} s, {used:.0f} s of processors",
                f"<= {MOST_SECONDS:.0f} s on two cores",
                total <= MOST_SECONDS,
            ),
            Line("Stages of the proof that it does not name", ", ".join(missing), "none", not missing),
        ]
    )


def edit_of(service: LiveService, suite: Path) -> dict[str, Any]:
    """An edit by the defaults, proved on what was inserted often, half of it unseen, and on all controls."""
    texts = read(suite / "texts.jsonl")
    memorized = [text for text in texts if text["duplicates"] >= MEMORIZED]
    sets = {
        "memorized_text_set": memorized[::2],
        "unseen_text_set": memorized[1::2],
        "control_text_set": [text for text in texts if text["duplicates"] == 0],
        "clean_text_set": read(suite / "clean.jsonl"),
    }
    perturbed, standard = (service.register(suite / name) for name in ("perturbed", "standard"))
    for model in (perturbed, standard):
        service.model(model)
    return {
        "model": perturbed,
        "method": "kfac",
        "name": "proved",
        "calibration_text_set": service.upload(read(suite / "calibration.jsonl")),
        "block_tokens": 128,
        "keep_mass": 0.6,
        "evaluation": {
            **{name: service.upload(records) for name, records in sets.items()},
            "prefix_token": "eos",
            "stress": "full",
            "reference_model": standard,
        },
    }


def followed(
    service: LiveService, edit: dict[str, Any], process: psutil.Process
) -> dict[str, tuple[float, float]]:
    """Seconds, and those of processors, by the stage that progress names, until the edit has succeeded."""
    seen: dict[str, tuple[float, float]] = {}
    print(f"{'stage':<22} {'seconds':>8} {'of processors':>14}")
    clock, processors = time.monotonic(), busy(process)
    while edit["status"] not in TERMINAL:
        stage = edit["progress"]["stage"] or "waiting"
        while edit["status"] not in TERMINAL and (edit["progress"]["stage"] or "waiting") == stage:
            time.sleep(0.1)
            edit = service.client.get(f"/v1/edits/{edit['id']}").json()
        now, used = time.monotonic(), busy(process)
        seen[stage] = (now - clock, used - processors)
        print(f"{stage:<22} {now - clock:8.1f} {used - processors:14.1f}", flush=True)
        clock, processors = now, used
    assert edit["status"] == "succeeded", edit["error"]
    return seen


def busy(process: psutil.Process) -> float:
    """Seconds of processors that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a text set."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
