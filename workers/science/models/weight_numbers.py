"""One reading of a weights file: its digest, and whether its numbers can be weights."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from workers.science.errors import CheckpointRejected
from workers.science.models.safetensors_header import StoredTensor

# Trained weights stay below 1e4. One number beyond this makes every other number of the model meaningless.
LARGEST_WEIGHT: Final = 1e6
_PIECE_BYTES: Final = 8 * 2**20  # a multiple of the size of every number
_single: Final = int(np.float32(LARGEST_WEIGHT).view(np.uint32))
# Of each format, unsigned and signed integers of its width, and the bits of LARGEST_WEIGHT: bits of floats
# order as their magnitudes do, and those of infinity and NaN are above all others.
_FORMATS: Final[Mapping[str, tuple[type[Any], type[Any], int]]] = {
    "F16": (np.uint16, np.int16, 0x7BFF),  # its largest finite number is 65504
    "BF16": (np.uint16, np.int16, _single >> 16),
    "F32": (np.uint32, np.int32, _single),
    "F64": (np.uint64, np.int64, int(np.float64(LARGEST_WEIGHT).view(np.uint64))),
}


def digest_weights(
    path: Path,
    tensors: Sequence[StoredTensor],
    unused: Collection[str] = (),
    on_read: Callable[[int], object] = lambda _: None,
) -> str:
    """The sha256 of a weights file in lower-case hex; every number is looked at on the way.

    Args:
        path: the file.
        tensors: what its header declares, in the order of their bytes.
        unused: names of tensors that the model does not take: their numbers may be anything.
        on_read: called with the number of bytes of each piece that was read; may raise to stop.

    Raises:
        CheckpointRejected: `weights_not_finite`, if a number is NaN, infinite, or further from 0 than
            LARGEST_WEIGHT; `weights_unreadable`, if the file has become shorter.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    place = 0

    def read(file: BinaryIO, end: int) -> memoryview:
        nonlocal place
        piece = buffer[: min(_PIECE_BYTES, end - place)]
        if file.readinto(piece) < len(piece):  # type: ignore[attr-defined]
            raise CheckpointRejected("weights_unreadable", f"{path.name} changed while it was read.")
        place += len(piece)
        digest.update(piece)
        on_read(len(piece))
        return piece

    with path.open("rb") as file:
        for tensor in tensors:
            while place < tensor.start:
                read(file, tensor.start)
            checked = tensor.dtype in _FORMATS and tensor.name not in unused
            while place < tensor.end:
                piece = read(file, tensor.end)
                if checked and not _are_weights(piece, tensor.dtype):
                    raise CheckpointRejected(
                        "weights_not_finite",
                        f"{path.name} has weights that are NaN, infinite or beyond {LARGEST_WEIGHT:.0e}; the "
                        "checkpoint is damaged.",
                    )
    return digest.hexdigest()


def _are_weights(piece: memoryview, dtype: str) -> bool:
    """Whether all numbers [n] in a piece of memory are finite and at most LARGEST_WEIGHT."""
    unsigned, signed, most = _FORMATS[dtype]
    bits: npt.NDArray[Any] = np.frombuffer(piece, dtype=unsigned)
    sign = 1 << (8 * bits.itemsize - 1)
    # The largest signed integer is that of the largest positive number. The largest unsigned one has the sign
    # bit if any number is negative, and is then that of the most negative one.
    return int(bits.view(signed).max()) <= most and int(bits.max()) <= sign + most
