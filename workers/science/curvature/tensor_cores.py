"""Products of numbers that a GPU's tensor cores multiply without loss."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# TensorFloat-32 keeps 10 bits of a factor's mantissa and all 8 of its exponent: these formats have no more.
_EXACT_IN_TF32 = frozenset({torch.bfloat16, torch.float16})


@contextmanager
def lossless_tensor_cores(dtype: torch.dtype) -> Iterator[None]:
    """Let products of float32 matrices run in TF32 if their numbers came from `dtype` and lose nothing by it.

    Products are then exact and their sums float32, as without, at several times the rate. Elsewhere than on a
    GPU nothing changes. For all threads: for a process whose one thread at a time computes.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or dtype in _EXACT_IN_TF32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
