"""Numbers on their way to a device and back, which on a GPU hold nobody up."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.science.scoring.likelihood import PositionScores


def to_device(numbers: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """The numbers on a device: to a GPU from pinned memory, beside what is computed there."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True, slots=True)
class Returning:
    """Scores on their way to the host; not to be read before `arrived`."""

    scores: PositionScores
    done: torch.cuda.Event | None

    def arrived(self) -> PositionScores:
        """The scores on the host, waited for once for all of them."""
        if self.done is not None:
            self.done.synchronize()
        return self.scores


def bring_back(scores: PositionScores) -> Returning:
    """Begin to copy scores from their device, in the order of what is computed there."""
    # What is asked for so from a GPU comes into pinned memory.
    moved: dict[str, Any] = {
        field.name: found.to("cpu", non_blocking=True)
        for field in fields(scores)
        if (found := getattr(scores, field.name)) is not None
    }
    host = PositionScores(**moved)
    if not scores.log_likelihood.is_cuda:
        return Returning(host, None)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(scores.log_likelihood.device))
    return Returning(host, done)
