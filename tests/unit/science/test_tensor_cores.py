"""Which factors TF32 multiplies without loss, and that the setting does not stay."""

import pytest
import torch

from workers.science.curvature.tensor_cores import lossless_tensor_cores


def in_tf32(numbers: torch.Tensor) -> torch.Tensor:
    """What TF32 keeps of float32: the first 10 of 23 bits of the mantissa."""
    return (numbers.view(torch.int32) & ~((1 << 13) - 1)).view(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tf32_is_used_only_where_it_keeps_every_bit(dtype: torch.dtype) -> None:
    numbers = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).to(dtype).float()
    with lossless_tensor_cores(dtype):
        used = torch.backends.cuda.matmul.allow_tf32
    assert used == torch.equal(in_tf32(numbers), numbers)
    assert used == (dtype != torch.float32)


def test_the_setting_is_as_before_afterwards_also_when_it_fails() -> None:
    with pytest.raises(ValueError, match="lost"), lossless_tensor_cores(torch.bfloat16):
        raise ValueError("lost")
    assert not torch.backends.cuda.matmul.allow_tf32
    with lossless_tensor_cores(torch.bfloat16), lossless_tensor_cores(torch.float32):
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
