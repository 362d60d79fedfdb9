"""The header of a safetensors file, checked before any library sees the file.

Format: 8 bytes with the header's length, little-endian; the header, JSON that names each tensor with its
number format, its shape and where its bytes lie; then these bytes, without holes (README of safetensors,
"Format").
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, Final, NoReturn

from workers.science.errors import CheckpointRejected

MOST_HEADER_BYTES: Final = 8 * 2**20
MOST_TENSORS: Final = 100_000
MOST_DIMENSIONS: Final = 16
MOST_NAME_CHARS: Final = 1000
# Each tensor has one object, two lists and four colons. Counted before the JSON is parsed: what it becomes in
# memory grows with these, not with its bytes.
_MOST_MARKS: Final[Mapping[bytes, int]] = {
    b"{": 2 * MOST_TENSORS,
    b"[": 3 * MOST_TENSORS,
    b":": 6 * MOST_TENSORS,
}
_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_FIELDS: Final = {"dtype", "shape", "data_offsets"}
# Bits of a number in each of safetensors' formats.
_BITS: Final[Mapping[str, int]] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a safetensors file.

    Attributes:
        name: as the file has it.
        dtype: number format, by safetensors' name such as `BF16`.
        shape: its dimensions.
        start: the first of its bytes, counted from the beginning of the file.
        end: past the last of its bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


def read_header(file: BinaryIO, name: str) -> list[StoredTensor]:
    """The tensors of an open safetensors file, in the order of their bytes.

    Takes less than 200 MB and a second for any file; none of the tensors' bytes are read.

    Args:
        file: opened for reading.
        name: of the file, for errors.

    Raises:
        CheckpointRejected: `weights_unreadable`, if the header is longer than MOST_HEADER_BYTES or names more
            than MOST_TENSORS tensors, a name twice, an unknown number format, bytes that overlap, leave
            holes or lie outside of the file, or more or fewer bytes than a tensor's shape has.
    """
    try:
        length = _header_length(file)
        entries = _parse(file.read(length))
        return _tensors(entries, _LENGTH_BYTES + length, _size(file))
    except _HeaderInvalid as error:
        raise CheckpointRejected(
            "weights_unreadable",
            f"{name} is truncated or is not a safetensors file: {error}. Save the checkpoint again with "
            "safetensors.",
        ) from None


class _HeaderInvalid(Exception):
    """What is wrong, without anything that the header says."""


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _header_length(file: BinaryIO) -> int:
    file.seek(0)
    first = file.read(_LENGTH_BYTES)
    if len(first) < _LENGTH_BYTES:
        raise _HeaderInvalid("it is shorter than the length of its header")
    length = int.from_bytes(first, "little")
    if length > MOST_HEADER_BYTES:
        raise _HeaderInvalid(f"its header is longer than {MOST_HEADER_BYTES} bytes")
    if length > _size(file) - _LENGTH_BYTES:
        raise _HeaderInvalid("its header ends after the file")
    return length


def _parse(header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise _HeaderInvalid("its header is not a JSON object")
    if any(header.count(mark) > most for mark, most in _MOST_MARKS.items()):
        raise _HeaderInvalid(f"its header names more than {MOST_TENSORS} tensors")
    try:
        entries = json.loads(
            header.decode("utf-8"), object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        raise _HeaderInvalid("its header cannot be read as JSON") from None
    assert isinstance(entries, dict)
    if len(entries) > MOST_TENSORS + 1:
        raise _HeaderInvalid(f"its header names more than {MOST_TENSORS} tensors")
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _HeaderInvalid("its metadata are not strings")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _HeaderInvalid("its header says something twice")
    return found


def _refuse(_: str) -> NoReturn:
    raise _HeaderInvalid("its header has a number that is not whole")


def _tensors(entries: Mapping[str, Any], first: int, size: int) -> list[StoredTensor]:
    """The tensors, whose bytes lie one after the other from `first` to `size`."""
    tensors = sorted(
        (_tensor(name, entry, first) for name, entry in entries.items()),
        key=lambda tensor: (tensor.start, tensor.end),
    )
    place = first
    for tensor in tensors:
        if tensor.start != place:
            raise _HeaderInvalid("the bytes of its tensors overlap or leave holes")
        place = tensor.end
    if place != size:
        raise _HeaderInvalid("its tensors have more or fewer bytes than the file")
    return tensors


def _tensor(name: str, entry: Any, first: int) -> StoredTensor:
    if not _is_clean(name):
        raise _HeaderInvalid("a tensor's name is too long or is no text")
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise _HeaderInvalid("a tensor is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _HeaderInvalid("a tensor has a number format that safetensors does not know")
    if not _are_whole(shape, MOST_DIMENSIONS):
        raise _HeaderInvalid("a tensor's shape is not a list of a few whole numbers")
    if not _are_whole(offsets, 2) or len(offsets) < 2:  # noqa: PLR2004 - beginning and end
        raise _HeaderInvalid("a tensor's data_offsets are not two whole numbers")
    start, end = offsets
    if end < start or (end - start) * 8 != prod(shape) * _BITS[dtype]:
        raise _HeaderInvalid("a tensor has more or fewer bytes than its shape and number format")
    return StoredTensor(name, dtype, tuple(shape), first + start, first + end)


def _is_clean(name: str) -> bool:
    """Whether a name is short, is not empty, and has neither NUL nor half a surrogate pair."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(name) <= MOST_NAME_CHARS and "\0" not in name


def _are_whole(numbers: Any, most: int) -> bool:
    if not isinstance(numbers, list) or len(numbers) > most:
        return False
    return all(type(number) is int and number >= 0 for number in numbers)
