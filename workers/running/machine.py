"""What this worker runs on: its devices and its memory, which tell its class from others."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from app.settings import GPU_QUEUE, Queue
from app.store.throughput import Machine

_GIB: Final = 2**30
# Version 2 and version 1 of control groups, as a container sees its own.
_MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_PROCESSORS: Final = Path("/proc/cpuinfo")


def this_machine(queue: Queue) -> Machine:
    """The machine of this process. A worker for `cpu` has no use for torch, and it is not imported then."""
    if queue == GPU_QUEUE:
        import torch  # noqa: PLC0415 - not every worker has it

        if torch.cuda.is_available():
            cards = [torch.cuda.get_device_properties(place) for place in range(torch.cuda.device_count())]
            several = f"{len(cards)} x " if len(cards) > 1 else ""
            memory_bytes = sum(card.total_memory for card in cards)
            return _machine(several + cards[0].name, memory_bytes, on_processor=False)
    return _machine(_processor(), min(_memory_limits()), on_processor=True)


def _machine(device: str, memory_bytes: int, *, on_processor: bool) -> Machine:
    threads = _threads() if on_processor else 0
    computing = [f"{threads} thread{'s' * (threads != 1)}"] if on_processor else []
    name = ", ".join([device, *computing, f"{memory_bytes / _GIB:.0f} GiB"])
    return Machine(name=name, device=device, threads=threads, memory_bytes=memory_bytes)


def _threads() -> int:
    """Threads that compute: as many as there are processors for this process, or as it was told."""
    allowed = len(os.sched_getaffinity(0))
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, int(told)) if told.isdecimal() and int(told) else allowed


def _processor() -> str:
    with suppress(OSError):
        for line in _PROCESSORS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return os.uname().machine


def _memory_limits() -> Iterator[int]:
    """Bytes that this process can have: all of the machine's, or what its control group allows."""
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # not there, or `max`
            yield int(path.read_text())
