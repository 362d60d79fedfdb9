"""GPUs of this machine, and which of them each process of a worker takes."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from app.embedded.errors import EmbeddedError
from app.settings import GPU_QUEUE, DeviceGroup, Queue, Settings

# What CUDA itself reads: the devices that a process sees, in its order, by number or by UUID.
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_DEVICES: Final = Path("/dev")
_CARD: Final = re.compile(r"nvidia\d+")


def visible_devices(
    environment: Mapping[str, str] = os.environ, directory: Path = _DEVICES
) -> tuple[str, ...]:
    """The GPUs that CUDA shows a process with this environment, as `CUDA_VISIBLE_DEVICES` names them.

    Asked of the environment and the device files, since torch is never loaded here: in a container there are
    only the files of the cards that it was given, and CUDA counts these from 0.
    """
    if _VISIBLE in environment:
        named = [name.strip() for name in environment[_VISIBLE].split(",")]
        # CUDA takes what stands before the first name that is none.
        end = next((place for place, name in enumerate(named) if name in {"", "-1"}), len(named))
        return tuple(named[:end])
    cards = [each for each in directory.iterdir() if _CARD.fullmatch(each.name)] if directory.is_dir() else []
    return tuple(str(place) for place in range(len(cards)))


def device_groups(asked: Sequence[DeviceGroup], visible: Sequence[str]) -> list[DeviceGroup]:
    """The devices of each process of a worker, as `CUDA_VISIBLE_DEVICES` names them: none without a GPU.

    Args:
        asked: `MEMAUDIT_DEVICES`; numbers count the visible devices. Each visible device for a process of
            its own if nothing is asked for.
        visible: see `visible_devices`.

    Raises:
        EmbeddedError: a number is of no visible device.
    """
    if not asked:
        return [(device,) for device in visible]
    return [tuple(_named(device, visible) for device in group) for group in asked]


def _named(device: str, visible: Sequence[str]) -> str:
    if not device.isdecimal():
        return device
    if int(device) >= len(visible):
        raise EmbeddedError(
            f"MEMAUDIT_DEVICES names device {device}, and this machine shows {len(visible)}: see "
            f"{_VISIBLE}, and whether the container was given its GPUs"
        )
    return visible[int(device)]


def worker_devices(settings: Settings, queue: Queue) -> list[DeviceGroup]:
    """The devices of each process of a worker here, none for `cpu`.

    Raises:
        EmbeddedError: see `device_groups`.
    """
    return device_groups(settings.devices, visible_devices()) if queue == GPU_QUEUE else []


def device_variables(groups: Sequence[DeviceGroup]) -> dict[str, str]:
    """The environment that tells a worker's processes which devices are theirs."""
    return {"MEMAUDIT_DEVICES": ",".join(map("+".join, groups))}
