"""Which failures mean that the device is broken."""

from collections.abc import Callable

import pytest
import torch

from workers.running.device import device_answers, device_is_broken
from workers.science.errors import ScoreNotFinite


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"),
        torch.AcceleratorError("an illegal memory access was encountered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("HIP error: unspecified launch failure"),
    ],
)
def test_a_broken_device_is_known_by_what_it_says(error: Exception) -> None:
    assert device_is_broken(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("CUDA error: said by a text, not by the device"),
        IndexError("index out of range in self"),
    ],
)
def test_other_failures_leave_the_device_as_it_was(error: Exception) -> None:
    assert not device_is_broken(error)


def fail_while_cleaning_up() -> None:
    try:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")
    finally:
        raise_named("weights cannot be put back")


def fail_with_another_name() -> None:
    try:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")
    except RuntimeError:
        raise ScoreNotFinite("not_finite", "A number is not finite.") from None


def raise_named(what: str) -> None:
    raise ValueError(what)


@pytest.mark.parametrize("fail", [fail_while_cleaning_up, fail_with_another_name])
def test_a_failure_that_hides_another_one_is_looked_through(fail: Callable[[], None]) -> None:
    with pytest.raises(Exception, match=r"\w") as raised:
        fail()
    assert device_is_broken(raised.value)


def test_where_no_device_is_in_use_none_is_broken() -> None:
    assert not torch.cuda.is_initialized()
    assert device_answers()
