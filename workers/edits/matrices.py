"""Matrices of a worker as blobs: each is a file of one tensor."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from safetensors.torch import load, save_file
from torch import Tensor

from workers.edits.inputs import SCRATCH, EditInputs
from workers.running.runtime import Runtime

_TENSOR: Final = "covariance"


class MatrixWriter:
    """Stores matrices. What is shared between projections is the same tensor, and is stored once.

    Args:
        runtime: this process.
        directory: for one file at a time.
        on_progress: called while bytes are on their way; may raise to stop.
    """

    def __init__(self, runtime: Runtime, directory: Path, on_progress: Callable[[], None]) -> None:
        self._blobs = runtime.blobs
        self._path = directory / "matrix.safetensors"
        self._on_progress = on_progress
        self._written: dict[int, str] = {}

    def put(self, matrix: Tensor) -> str:
        """Store a matrix, which has to stay in memory until the last one is stored; its SHA-256.

        Raises:
            StorageFull, StorageUnavailable: see `BlobStore.put_file`.
            BlobMissing: one that was put before was collected meanwhile.
        """
        if id(matrix) not in self._written:
            save_file({_TENSOR: matrix.contiguous().cpu()}, self._path)
            kept = list(self._written.values())
            sha256, _ = self._blobs.put_file(self._path, lambda _: self._on_progress(), keeping=kept)
            self._written[id(matrix)] = sha256
        return self._written[id(matrix)]


@contextmanager
def matrix_writer(
    runtime: Runtime, inputs: EditInputs, on_progress: Callable[[], None]
) -> Iterator[MatrixWriter]:
    """A writer for the time of a block, with a directory of its own among those of the edit."""
    parent = runtime.settings.home / SCRATCH
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{inputs.edit_id.hex}-", dir=parent) as directory:
        yield MatrixWriter(runtime, Path(directory), on_progress)


def read_matrix(runtime: Runtime, sha256: str) -> Tensor:
    """A stored matrix, on the CPU.

    Raises:
        ArtifactCorrupt: the blob is missing or damaged.
        StorageUnavailable: the store does not answer.
    """
    matrix: Tensor = load(b"".join(runtime.blobs.read(sha256)))[_TENSOR]
    return matrix
