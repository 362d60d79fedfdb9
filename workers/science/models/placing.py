"""Where the weights of a language model go: on the GPU with most room, or over all GPUs of this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import torch
from torch import nn

# Of a GPU's free memory, what weights may take; the rest is for what is computed with them.
_SHARE_FOR_WEIGHTS: Final = 0.8


@dataclass(frozen=True)
class Placing:
    """Where weights go.

    Attributes:
        device: where inputs go and last hidden states come back, with everything but layers.
        device_map: the device of each part of the model, as `from_pretrained` takes it; None if it is whole.
    """

    device: torch.device
    device_map: dict[str, torch.device] | None = None


def place(model_class: Any, config: Any, dtype: torch.dtype) -> Placing:
    """Where a model goes in this process: the processor without a GPU, else by the room on its GPUs."""
    if not torch.cuda.is_available():
        return Placing(torch.device("cpu"))
    free = {torch.device("cuda", each): _free_bytes(each) for each in range(torch.cuda.device_count())}
    return place_on(free, model_class, config, dtype)


def place_on(free: dict[torch.device, int], model_class: Any, config: Any, dtype: torch.dtype) -> Placing:
    """Where a model goes by the bytes that are free on each device.

    It stays whole where one device has room for it, and where there is but one. Otherwise whole layers go to
    devices in the proportion of their room, one after the other, and all else to the first: then hidden
    states pass each border once, and come back to where the output embedding is. What does not fit even so
    runs out of memory as it is loaded.
    """
    devices = sorted(free, key=lambda device: -free[device])
    first = devices[0]
    with torch.device("meta"):
        model = model_class(config)
    total = _bytes(model, dtype)
    if len(devices) == 1 or total <= _SHARE_FOR_WEIGHTS * free[first]:
        return Placing(first)
    path, layers = _layers(model)
    sizes = [_bytes(layer, dtype) for layer in layers]
    rooms = [_SHARE_FOR_WEIGHTS * free[device] for device in devices]
    rooms[0] = max(0.0, rooms[0] - (total - sum(sizes)))
    device_map = dict.fromkeys(_beside(model, path), first)
    for number, place in enumerate(spread(sizes, rooms)):
        device_map[f"{path}.{number}"] = devices[place]
    return Placing(first, device_map)


def spread(sizes: Sequence[float], rooms: Sequence[float]) -> list[int]:
    """For each layer in order the number of the device that it goes to, so that all are filled alike.

    Args:
        sizes: bytes of the layers.
        rooms: bytes on the devices, not all 0.
    """
    scale = sum(sizes) / sum(rooms)
    ends = [scale * end for end in accumulate(rooms)]
    middles = [end - size / 2 for size, end in zip(sizes, accumulate(sizes), strict=True)]
    return [next(place for place, end in enumerate(ends) if middle <= end) for middle in middles]


def _free_bytes(place: int) -> int:
    """Free on a GPU, with what torch holds there and does not use."""
    free, _ = torch.cuda.mem_get_info(place)
    return free + torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)


def _bytes(module: nn.Module, dtype: torch.dtype) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize


def _layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The decoder's layers: the list of modules with most parameters, and its path."""
    lists = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda each: sum(parameter.numel() for parameter in each[1].parameters()))


def _beside(model: nn.Module, path: str) -> list[str]:
    """The paths of the largest modules that do not hold the module at `path`."""
    found = []
    module, above = model, ""
    for name in path.split("."):
        found += [f"{above}{child}" for child, _ in module.named_children() if child != name]
        module = module.get_submodule(name)
        above = f"{above}{name}."
    return found
