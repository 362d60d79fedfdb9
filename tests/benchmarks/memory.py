"""`python -m tests.benchmarks.memory`: the most memory that a worker holds, for few texts and for many.

That is of work that keeps something of its texts; of audits that do not see `growth`.

Everything is real: Postgres, Redis, API and a worker as processes. Each line is a fresh worker; its peak is
what Linux says (VmHWM) of the process that runs the jobs, once the audit or the edit has ended.
"""

import argparse
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.deployments import Deployment, deployments
from tests.edit_requests import end_of as end_of_edit
from tests.edit_requests import request
from tests.live_service import LiveService, job_process
from tests.tiny_models import english_sentences, save_tiny_model

FEW = 10_000
SHORT_CHARS = (20, 60)
MOST_GROWTH = 300
HOURS = 3600.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_000_000, help="of the large audit")
    parser.add_argument("--clean-texts", type=int, default=100_000, help="of the large edit's clean set")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        model = save_tiny_model(Path(directory) / "tiny")
        with deployments([model.parent]) as deploy:
            deployment = deploy(lease_seconds=60, shard_tokens=65_536)
            compare(deployment, model, "labelled audit", labelled_audit, arguments.texts)
            compare(deployment, model, "edit", edit, arguments.clean_texts)


def compare(
    deployment: Deployment,
    model: Path,
    what: str,
    work: Callable[[LiveService, str, int], None],
    many: int,
) -> None:
    """Print what a worker holds at most for few texts and for many."""
    peaks = [measured(deployment, model, what, work, texts) for texts in (FEW, many)]
    print(f"  {what}: {peaks[1] - peaks[0]:+.0f} MB   (at most +{MOST_GROWTH})", flush=True)


def measured(
    deployment: Deployment,
    model: Path,
    what: str,
    work: Callable[[LiveService, str, int], None],
    texts: int,
) -> float:
    """The peak of a fresh worker in MB."""
    service = deployment.service
    worker = service.start_worker()
    model_id = service.register(model)
    assert service.model(model_id)["status"] == "ready"
    before = peak_megabytes(job_process(worker).pid)
    began = time.perf_counter()
    work(service, model_id, texts)
    peak = peak_megabytes(job_process(worker).pid)
    seconds = time.perf_counter() - began
    print(f"  {what} of {texts:9} short texts: {before:.0f} -> {peak:.0f} MB in {seconds:.0f} s", flush=True)
    worker.stop()
    return peak


def peak_megabytes(process_id: int) -> float:
    """The most resident memory that a process has had."""
    status = Path(f"/proc/{process_id}/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) / 1000


def labelled_audit(service: LiveService, model: str, texts: int) -> None:
    """Upload and audit texts that say whether they are a member, without token evidence."""
    text_set = upload(service, texts, labelled=True)
    audit_id = service.audit(model, text_set, metrics=["membership"], options={"token_evidence": False})
    ended = service.end_of(audit_id, seconds=HOURS)
    assert ended["status"] == "succeeded", ended
    found = ended["summary"]["membership"]
    assert found["n_members"] + found["n_others"] == texts


def edit(service: LiveService, model: str, texts: int) -> None:
    """A K-FAC edit whose calibration set is its clean text too, as it is by default."""
    body = {
        "model": model,
        "method": "kfac",
        "name": f"of-{texts}",
        "layers": [0],
        "calibration_text_set": upload(service, texts),
        "calibration_tokens": 100_000,
        "block_tokens": 128,
    }
    ended = end_of_edit(service, request(service, body), seconds=HOURS)
    assert ended["status"] == "succeeded", ended
    assert ended["evaluation"]["sets"]["clean"]["texts"] == texts


def upload(service: LiveService, texts: int, *, labelled: bool = False) -> str:
    """A set of slices of the Python manual, as one stream."""
    response = service.client.post(
        "/v1/text-sets",
        params={"name": "short texts"},
        content=lines(texts, labelled=labelled),
        headers={"Content-Type": "application/jsonl"},
        timeout=HOURS,
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def lines(texts: int, *, labelled: bool) -> Iterator[bytes]:
    """The texts, some thousand lines at a time; every other one a member, if they are labelled."""
    generator = random.Random(0)
    manual = " ".join(re.findall(r"\w+", " ".join(english_sentences())))
    for start in range(0, texts, 5000):
        part = []
        for number in range(min(5000, texts - start)):
            length = generator.randint(*SHORT_CHARS)
            place = generator.randrange(len(manual) - length)
            member = f', "member": {"true" if number % 2 else "false"}' if labelled else ""
            part.append(f'{{"text": "{manual[place : place + length]}"{member}}}\n')
        yield "".join(part).encode()


if __name__ == "__main__":
    main()
