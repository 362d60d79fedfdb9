"""A ZIP archive as it is written: the same bytes each time, in memory of a piece of one file."""

import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

_MODE: Final = 0o644 << 16
_UNIX: Final = 3


class _Pieces:
    """What a ZIP file is written to: it can be taken from, and not be rewound."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """What is held can still be taken."""

    def take(self) -> bytes:
        found = b"".join(self._held)
        self._held.clear()
        return found


class ZipStream:
    """An archive whose files are written one after the other, each from its pieces.

    Args:
        modified: what each file's time says.
    """

    def __init__(self, modified: datetime) -> None:
        self._out = _Pieces()
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_DEFLATED)
        self._modified = modified.astimezone(UTC).timetuple()[:6]

    def file(self, path: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The archive's bytes from here to the end of this file."""
        entry = zipfile.ZipInfo(path, self._modified)
        entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, _UNIX, _MODE
        # The size is not known before the end: room for one above 4 GiB.
        with self._zip.open(entry, "w", force_zip64=True) as target:
            for piece in pieces:
                target.write(piece)
                if found := self._out.take():
                    yield found
        yield self._out.take()

    def end(self) -> bytes:
        """The archive's directory; nothing can be written after it."""
        self._zip.close()
        return self._out.take()
