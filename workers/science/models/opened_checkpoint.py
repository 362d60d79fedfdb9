"""The files of a checkpoint, each opened once and seen through a directory that holds nothing else."""

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from workers.science.errors import CheckpointRejected
from workers.science.models.checkpoint_files import (
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER_FILES,
    WEIGHTS,
    WEIGHTS_INDEX,
    reject_other_formats,
    shard_names,
)

MOST_ENTRIES: Final = 10_000
_MEBIBYTE: Final = 2**20
# Of all files of a tokenizer together; the largest that are published have 40.
MOST_TOKENIZER_BYTES: Final = 64 * _MEBIBYTE
# Published checkpoints stay below a quarter of each other. Weights are bounded by all files together.
_MOST_BYTES: Final[Mapping[str, int]] = {
    CONFIG: _MEBIBYTE,
    GENERATION_CONFIG: _MEBIBYTE,
    WEIGHTS_INDEX: 16 * _MEBIBYTE,
    **dict.fromkeys(TOKENIZER_FILES, MOST_TOKENIZER_BYTES),
}
_CHAT_TEMPLATE: Final = ".jinja"
_MOST_TEMPLATES: Final = 100
_MOST_TEMPLATE_BYTES: Final = _MEBIBYTE


@contextmanager
def opened_checkpoint(directory: Path, roots: Sequence[Path], most_bytes: int) -> Iterator[Path]:
    """A directory of links to the files of a checkpoint that are used, opened here, and to no others.

    What is read through it, by this process or one that it starts, is what was opened: a file that is put in
    the place of another meanwhile is not seen. Only regular files are opened, whose real paths lie below
    `roots`: links may lead from one place there to another, as in the cache of a hub.

    Args:
        directory: a checkpoint in Hugging Face layout.
        roots: directories.
        most_bytes: of all these files together, by their sizes: of weights, nothing is read to find out.

    Yields:
        The directory of links, until the context ends.

    Raises:
        CheckpointRejected: `file_unusable`, for a file that is not regular, is elsewhere, is too large or
            cannot be opened, or a directory of more than MOST_ENTRIES; `too_large` as `require_bearable`;
            `no_safetensors` as `reject_other_formats`; `json_invalid` and `weights_incomplete` as
            `shard_names`.
    """
    entries = _entries(directory)
    reject_other_formats(entries)
    allowed = [root.resolve() for root in roots]
    with ExitStack() as opened:
        view = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="memaudit-checkpoint-")))

        def link(name: str, most_bytes: int | None) -> None:
            descriptor = _open(directory / name, allowed, most_bytes)
            if descriptor is not None:
                opened.callback(os.close, descriptor)
                (view / name).symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")

        for name in sorted(entries & {*_MOST_BYTES, WEIGHTS}):
            link(name, _MOST_BYTES.get(name))
        _require_bearable_tokenizer(view)
        for name in _templates(entries):
            link(name, _MOST_TEMPLATE_BYTES)
        if not (view / WEIGHTS).exists() and (view / WEIGHTS_INDEX).exists():
            for name in shard_names(view):
                link(name, None)
        require_bearable((path.stat().st_size for path in view.iterdir()), most_bytes)
        yield view


def require_bearable(sizes: Iterable[int], most_bytes: int) -> None:
    """Refuse a checkpoint by the sizes of its files: all of their bytes would be read.

    Raises:
        CheckpointRejected: `too_large`.
    """
    if (size := sum(sizes)) > most_bytes:
        raise CheckpointRejected(
            "too_large",
            f"The checkpoint's files have {size} bytes together, and MEMAUDIT_MAX_MODEL_BYTES of the workers "
            f"allows {most_bytes}. Register a smaller one, or have the limit raised.",
        )


def _entries(directory: Path) -> set[str]:
    names = set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                names.add(entry.name)
                if len(names) > MOST_ENTRIES:
                    raise CheckpointRejected(
                        "file_unusable",
                        f"The directory has more than {MOST_ENTRIES} entries; give the checkpoint's own.",
                    )
    except OSError:
        raise CheckpointRejected("file_unusable", "The directory of the checkpoint cannot be read.") from None
    return names


def _require_bearable_tokenizer(view: Path) -> None:
    present = [view / name for name in TOKENIZER_FILES if (view / name).exists()]
    if sum(path.stat().st_size for path in present) > MOST_TOKENIZER_BYTES:
        raise CheckpointRejected(
            "file_unusable",
            f"The files of the tokenizer have more than {MOST_TOKENIZER_BYTES} bytes together; leave out all "
            "but tokenizer.json and its settings.",
        )


def _templates(entries: set[str]) -> list[str]:
    return sorted(name for name in entries if name.endswith(_CHAT_TEMPLATE))[:_MOST_TEMPLATES]


def _open(path: Path, allowed: Sequence[Path], most_bytes: int | None) -> int | None:
    """A descriptor of a file for reading; None if there is none, as where a link leads nowhere.

    It is looked at before it is opened, as to open a device can do something, and again afterwards.
    """
    try:
        _require_regular(path.name, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        raise CheckpointRejected("file_unusable", f"{path.name} cannot be opened by the worker.") from None
    try:
        _require_usable(path.name, descriptor, allowed, most_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_usable(name: str, descriptor: int, allowed: Sequence[Path], most_bytes: int | None) -> None:
    status = os.fstat(descriptor)
    _require_regular(name, status)
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    if not any(real.is_relative_to(root) for root in allowed):
        raise CheckpointRejected(
            "file_unusable",
            f"{name} leads outside the directories that workers may read; put the file itself there.",
        )
    if most_bytes is not None and status.st_size > most_bytes:
        raise CheckpointRejected("file_unusable", f"{name} is larger than {most_bytes} bytes.")


def _require_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointRejected(
            "file_unusable", f"{name} is not a regular file: neither pipes, devices nor directories are read."
        )
