"""A file on disk that only this process can read: it is sealed with a key that is never written."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO, Final, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import Buffer

from app.errors import SealBroken
from app.sealing.boxes import new_key

# What is sealed at a time, so that any place can be read without what stands before it.
BLOCK_BYTES: Final = 2**18
_TAG_BYTES: Final = 16
_BOX_BYTES: Final = BLOCK_BYTES + _TAG_BYTES


class Spool:
    """Takes bytes in order, then gives them as a file that can be read from any place.

    Each block is one box (AES-256-GCM) whose nonce is its number: the key is for this file alone, and no
    block is written twice.

    Args:
        file: where the boxes are written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._cipher = AESGCM(new_key())
        self._block = bytearray()
        self._blocks = 0

    def write(self, content: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: the disk is full.
        """
        self._block += content
        while len(self._block) >= BLOCK_BYTES:
            self._seal(BLOCK_BYTES)

    def reader(self) -> BinaryIO:
        """All that was written, from its start. Nothing can be written any more.

        Raises:
            OSError: the disk is full.
        """
        size = self._blocks * BLOCK_BYTES + len(self._block)
        if self._block:
            self._seal(len(self._block))
        self._file.flush()
        raw = _SealedBlocks(self._file, self._cipher, size)
        return cast("BinaryIO", io.BufferedReader(raw, buffer_size=BLOCK_BYTES))

    def _seal(self, size: int) -> None:
        box = self._cipher.encrypt(_nonce(self._blocks), bytes(self._block[:size]), None)
        self._file.write(box)
        self._blocks += 1
        del self._block[:size]


class _SealedBlocks(io.RawIOBase):
    """What a spool holds, a block of it in memory."""

    def __init__(self, file: BinaryIO, cipher: AESGCM, size: int) -> None:
        self._file = file
        self._cipher = cipher
        self._size = size
        self._place = 0
        self._number = -1
        self._block = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the start of the file")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        number, start = divmod(self._place, BLOCK_BYTES)
        if self._place >= self._size:
            return 0
        if number != self._number:
            self._block, self._number = self._open(number), number
        part = self._block[start : start + len(view)]
        view[: len(part)] = part
        self._place += len(part)
        return len(part)

    def _open(self, number: int) -> bytes:
        self._file.seek(number * _BOX_BYTES)
        try:
            return self._cipher.decrypt(_nonce(number), self._file.read(_BOX_BYTES), None)
        except InvalidTag:
            raise SealBroken("What was received was changed on the disk before it was stored.") from None


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)


@contextmanager
def spooled() -> Iterator[Spool]:
    """A spool in a temporary file that has no name, and is gone with this process."""
    with TemporaryFile() as file:
        yield Spool(file)
