"""The devices of this process: which are its own, and whether one is broken, so that it computes no more."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from app.settings import DeviceGroup

# How torch and its libraries say that a kernel failed: the context stays unusable until the process ends.
_BROKEN: Final = re.compile(
    r"CUDA error|HIP error|cudaError|device-side assert"
    r"|CU(BLAS|DNN|SOLVER|SPARSE)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"
)
_OUT_OF_MEMORY: Final = "out of memory"


class DeviceBroken(Exception):
    """This process must claim nothing more: another one has to be started in its place."""


def take_devices(groups: Sequence[DeviceGroup], place: int) -> None:
    """Show this process its own GPUs alone, which are `cuda:0` and so on to it; before torch asks for them.

    Args:
        groups: the GPUs of each process of the worker; without any this process sees what it was given.
        place: of this process among them, from 0; a process in another's stead has the place of that.
    """
    if groups:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(groups[place % len(groups)])


def device_is_broken(error: BaseException) -> bool:
    """Whether a failure, or one that led to it, says that the device is broken; a lack of memory does not."""
    return any(_says_so(each) for each in _chain(error))


def device_answers() -> bool:
    """Whether the devices still do what they are told; true where none is in use.

    What a kernel broke is often told by a later call only, so it asks the devices themselves.
    """
    if not _torch_is_loaded():
        return True
    import torch  # noqa: PLC0415 - not every worker has it

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return True
    try:
        for place in range(torch.cuda.device_count()):
            torch.cuda.synchronize(place)
    except RuntimeError:
        return False
    return True


def _torch_is_loaded() -> bool:
    """A process that has not loaded torch uses no device, and may not have torch."""
    return "torch" in sys.modules


def _says_so(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError) or _OUT_OF_MEMORY in str(error) or not _torch_is_loaded():
        return False
    import torch  # noqa: PLC0415 - not every worker has it

    return isinstance(error, torch.AcceleratorError) or _BROKEN.search(str(error)) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from or while handling, and so on."""
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
