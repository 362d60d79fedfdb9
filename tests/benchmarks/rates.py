"""What a device can do at most, and how long something takes on it."""

import time
from collections.abc import Callable
from typing import Final

import torch

# Dense products of bfloat16 in FLOP/s, as NVIDIA's data sheets state them; the first name that fits counts.
_PEAKS: Final = (
    ("A100", 312e12),
    ("H200 NVL", 836e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 836e12),
    ("H100", 989e12),
)


def peak_rate(card: str) -> float | None:
    """FLOP/s of bfloat16 products that a card's maker states; None of other cards and of parts of one."""
    if "MIG" in card.split():
        return None
    return next((rate for name, rate in _PEAKS if name in card), None)


def timed(function: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds that a call takes, until the device has done all that it was told."""
    _finish(device)
    start = time.perf_counter()
    function()
    _finish(device)
    return time.perf_counter() - start


def rate_of_products(
    shape: tuple[int, int, int],
    seconds: float = 2.0,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> float:
    """FLOP/s of products [m, k] x [k, n], the best of many.

    Args:
        shape: m, k, n.
        seconds: how long to try.
        device: by default the processor, on all threads together.
        dtype: of the matrices.
    """
    rows, inner, columns = shape
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(inner, columns, device=device, dtype=dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        times.append(timed(lambda: torch.mm(left, right, out=out), device))
    return 2 * rows * inner * columns / min(times)


def _finish(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
