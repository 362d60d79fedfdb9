"""Describing a checkpoint of strangers: in a process of its own, within limits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from workers.confined.process import ConfinedProcess, LimitReached, Limits
from workers.science.errors import CheckpointRejected
from workers.science.models.checkpoint_files import TOKENIZER_FILES
from workers.science.models.configuration import Dimensions
from workers.science.models.description import CheckpointDescription
from workers.science.models.tokenizer_files import TokenizerDescription

log = structlog.get_logger()

# Of processor time: for what comes first; for the trial of the tokenizer, which takes milliseconds; to match
# tensors with the model; for each saying of what was read. The longest header takes 0.6 s and 100 MB; 47,000
# tensors, of a mixture of many experts, are matched in 5 s, and take 120 MB in all; a tokenizer of 256,000
# tokens, 24 MB, is loaded in 1.6 s and takes 380 MB.
CPU_SECONDS: Final = 2
TRIAL_SECONDS: Final = 0.5
TENSORS_A_SECOND: Final = 4000
MEMORY_BYTES: Final = 256 * 2**20
_TOKENIZER_BYTES_A_SECOND: Final = 8 * 2**20
_MEMORY_A_TOKENIZER_BYTE: Final = 16
# Reading is said each 256 MiB: a disk that is slower than this is broken.
SILENT_SECONDS: Final = 300.0


def inspect_checkpoint(directory: Path, on_wait: Callable[[], object]) -> CheckpointDescription:
    """What `describe_checkpoint` finds, called in a process of its own.

    Args:
        directory: as `opened_checkpoint` gives it.
        on_wait: called each second and at least after each 256 MiB; may raise to stop.

    Raises:
        CheckpointRejected: as `describe_checkpoint`; also `limits_exceeded`, if that takes more memory or
            time than any checkpoint needs, and `unreadable`, if it fails in a way of its own.
        JobCrashed: the process was killed.
    """
    limits = limits_for(directory)
    with ConfinedProcess("inspect", limits, str(directory)) as process:
        try:
            while True:
                said = orjson.loads(process.answer(SILENT_SECONDS, on_wait))
                if "read" not in said:
                    return _found(said)
                on_wait()
        except LimitReached as reached:
            raise limits_exceeded(reached) from None


def limits_for(directory: Path) -> Limits:
    """What describing a checkpoint, or loading its tokenizer, may take."""
    present = [directory / name for name in TOKENIZER_FILES if (directory / name).exists()]
    size = sum(path.stat().st_size for path in present)
    return Limits(
        memory_bytes=MEMORY_BYTES + _MEMORY_A_TOKENIZER_BYTE * size,
        cpu_seconds=CPU_SECONDS + size // _TOKENIZER_BYTES_A_SECOND,
    )


def limits_exceeded(reached: LimitReached) -> CheckpointRejected:
    """How a process that describes a checkpoint or loads its tokenizer was ended, said to a person."""
    what = {"memory": "memory", "time": "processor time"}[reached.of]
    return CheckpointRejected(
        "limits_exceeded",
        f"To read the configuration and the tokenizer takes more {what} than any usable checkpoint "
        "needs: check the sizes in config.json and the expressions in tokenizer.json.",
    )


def _found(said: dict[str, Any]) -> CheckpointDescription:
    if "rejected" in said:
        raise CheckpointRejected(*said["rejected"])
    if "raised" in said:
        log.warning("checkpoint_not_described", error=said["raised"], where=said["where"])
        raise CheckpointRejected(
            "unreadable", "The checkpoint's files cannot be read: their values do not fit together."
        )
    found = said["found"]
    tokenizer, dimensions = found.pop("tokenizer"), found.pop("dimensions")
    tokenizer["prefix_token_ids"] = tuple(tokenizer["prefix_token_ids"])
    return CheckpointDescription(
        **found,
        tokenizer=TokenizerDescription(**tokenizer),
        dimensions=None if dimensions is None else Dimensions(**dimensions),
    )
