"""Checks of what workers need: checkpoints, a hub, a GPU; and whether any of them is there."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from app import __version__
from app.doctor.check import Check, Finding, Patient, fail, ok, warn
from app.embedded.devices import worker_devices
from app.embedded.errors import EmbeddedError
from app.settings import GPU_QUEUE, SERVED_BY, DeviceGroup

_SEEN_SECONDS: Final = 150.0  # they say each minute that they are there
_HUB: Final = "https://huggingface.co"
_HUB_SECONDS: Final = 5.0
_TORCH_SECONDS: Final = 60.0
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_DRIVER: Final = Path("/proc/driver/nvidia/version")
# Said by a process of its own: torch is never loaded into this one, and a driver may hang.
_ASK_TORCH: Final = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda, "devices": []}
if torch.cuda.is_available():
    for place in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(place)
        found["devices"].append([torch.cuda.get_device_name(place), free, total])
    torch.ones(8, device="cuda").sum().item()
print(json.dumps(found))
"""


def check_roots(patient: Patient) -> Finding:
    """Directories that checkpoints may be registered from, as the user of this command sees them."""
    roots = patient.settings.model_roots
    if not roots:
        return warn(
            "No directory is allowed as a source of language models.",
            "Set MEMAUDIT_MODEL_ROOTS, or use a hub.",
        )
    absent = [str(root) for root in roots if not root.is_dir()]
    if absent:
        return fail(
            f"{', '.join(absent)} of MEMAUDIT_MODEL_ROOTS is no directory.", "Correct it, or mount it."
        )
    unreadable = [str(root) for root in roots if not os.access(root, os.R_OK | os.X_OK)]
    if unreadable:
        return fail(f"{', '.join(unreadable)} cannot be read.", "Let the user that workers run as read it.")
    return ok(f"{', '.join(map(str, roots))} can be read.")


def check_hub(_: Patient) -> Finding:
    """A hub that is asked has to answer."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        return ok("No hub is asked: HF_HUB_OFFLINE is set.")
    hub = os.environ.get("HF_ENDPOINT", _HUB)
    if not hub.startswith(("http://", "https://")):
        return fail(f"HF_ENDPOINT is no address: {hub}.", "Set it to https://…, or unset it.")
    try:
        with urlopen(Request(f"{hub}/api/models?limit=1"), timeout=_HUB_SECONDS):  # noqa: S310 - checked above
            pass
    except HTTPError:
        pass  # it answers
    except (URLError, OSError) as error:
        return warn(
            f"{hub} does not answer ({type(error).__name__}): its models and presets wait for it.",
            "Check the network, HF_ENDPOINT and HTTPS_PROXY; or set HF_HUB_OFFLINE=1 if none is to be asked.",
        )
    return ok(f"{hub} answers.")


def check_gpu(patient: Patient) -> Finding:
    """The driver, what torch was built for, whether it computes on the card, and who takes which."""
    driver = _DRIVER.exists()
    if importlib.util.find_spec("torch") is None:
        if driver:
            return warn(
                "There is an NVIDIA driver and no torch.",
                "Install memaudit[worker] where a GPU is to be used.",
            )
        return ok("There is no torch: a worker for `cpu` needs none.")
    asked = subprocess.run(  # noqa: S603 - our own few lines
        [sys.executable, "-c", _ASK_TORCH],
        capture_output=True,
        text=True,
        timeout=_TORCH_SECONDS,
        check=False,
    )
    if asked.returncode != 0:
        return fail(
            f"torch cannot be used: {(asked.stderr.strip().splitlines() or ['it died'])[-1]}",
            "Install it again by its pin, or see whether the driver fits the card.",
        )
    try:
        groups = worker_devices(patient.settings, GPU_QUEUE)
    except EmbeddedError as error:
        return fail(f"{error}.", "Correct MEMAUDIT_DEVICES, or give this machine its GPUs.")
    return judge_torch(json.loads(asked.stdout), driver=driver, groups=groups)


def judge_torch(found: Mapping[str, Any], *, driver: bool, groups: Sequence[DeviceGroup] = ()) -> Finding:
    """What torch says, with whether there is a driver, and the devices of each process of a worker."""
    version, wanted = found["version"].partition("+")[0], _pinned_torch()
    if wanted not in {None, version}:
        return warn(
            f"torch is {version}, and this release was tested with {wanted}.", f"Install torch=={wanted}."
        )
    if found["devices"]:
        cards = ", ".join(
            f"{name} ({free / 2**30:.0f} of {total / 2**30:.0f} GiB free)"
            for name, free, total in found["devices"]
        )
        processes = "; ".join(map(" and ".join, groups)) or "all"
        return ok(f"torch {version} computes on {cards}. Devices of each process of a worker: {processes}.")
    if driver and found["cuda"] is None:
        return fail(
            "There is an NVIDIA driver, but torch was built without CUDA.", "Install torch's CUDA build."
        )
    if driver:
        return fail(
            f"There is an NVIDIA driver, but torch (CUDA {found['cuda']}) sees no card.",
            "Update the driver for that CUDA, see CUDA_VISIBLE_DEVICES, and give the container its GPU.",
        )
    return ok(f"There is no GPU: torch {version} computes on the processor.")


def _pinned_torch() -> str | None:
    """The version that this release asks for."""
    try:
        asked = requires("memaudit") or []
    except PackageNotFoundError:
        return None
    pins = [each.partition(";")[0].strip() for each in asked if each.startswith("torch==")]
    return pins[0].removeprefix("torch==") if pins else None


def check_workers(patient: Patient) -> Finding:
    """Every queue has to have somebody who serves it, of the release of this command."""
    lately = [worker for worker in patient.database.workers if worker.seen_seconds < _SEEN_SECONDS]
    served = {queue for worker in lately for queue in _served_by(worker.queue)}
    unserved = [queue for queue in SERVED_BY if queue not in served]
    if unserved:
        return fail(
            f"No worker of {' or '.join(unserved)} has said in the last minutes that it is there.",
            "Start `memaudit worker`, or read its log: it needs Postgres, and for `gpu` torch.",
        )
    others = sorted({str(worker.release) for worker in lately} - {__version__})
    if others:
        return warn(
            f"There are workers of release {', '.join(others)}, and this command is of {__version__}.",
            "Replace what is older: the workers first, then the API.",
        )
    return ok(f"Workers are there: {'; '.join(f'{worker.queue} on {worker.name}' for worker in lately)}.")


def _served_by(worker_queue: str) -> tuple[str, ...]:
    """The queues that a worker of a class serves; none of a class that only a newer release knows."""
    return next((queues for queue, queues in SERVED_BY.items() if queue == worker_queue), ())


CHECKS: Final = (
    Check("model roots", check_roots),
    Check("hub", check_hub),
    Check("gpu", check_gpu, seconds=_TORCH_SECONDS + 5),
    Check("workers", check_workers, seconds=15),
)
