"""What confined processes do."""

import gc
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from workers.confined.channel import Channel
from workers.confined.inspection import CPU_SECONDS, TENSORS_A_SECOND, TRIAL_SECONDS
from workers.science.errors import CheckpointRejected
from workers.science.models.description import describe_checkpoint
from workers.science.models.tokenizer_files import describe_tokenizer, load_tokenizer

_BYTES_A_SAYING: Final = 2**28


def inspect(channel: Channel, directory: str) -> Any:
    """Describe a checkpoint. Says `{"read": bytes}` now and then, and last `{"found"}` or `{"rejected"}`."""
    unsaid = 0
    gc.disable()  # nearly all that is made here is kept to the end

    def on_trial() -> None:
        channel.allow(TRIAL_SECONDS)

    def on_match(n_tensors: int) -> None:
        channel.allow(CPU_SECONDS + n_tensors / TENSORS_A_SECOND)

    def on_read(n_bytes: int) -> None:
        nonlocal unsaid
        unsaid += n_bytes
        if unsaid >= _BYTES_A_SAYING:
            channel.say({"read": unsaid})
            channel.allow(CPU_SECONDS)
            unsaid = 0

    try:
        return {"found": asdict(describe_checkpoint(Path(directory), on_trial, on_match, on_read))}
    except CheckpointRejected as error:
        return {"rejected": [error.code, error.detail]}
    except (MemoryError, OSError):
        raise
    except BaseException as error:  # noqa: BLE001 - what panics in Rust is no Exception
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return {"raised": type(error).__name__, "where": f"{frame.filename}:{frame.lineno}"}


def tokenize(channel: Channel, directory: str) -> Any:
    """Load a tokenizer and say what it is, or `{"rejected"}`; then answer until nobody asks any more.

    A question is a method of the tokenizer, its argument and options, and seconds of processor time. The
    answer is `{"failed"}` or `{"text"}`, or for texts `{"lengths", "fields"}` and then the numbers of each
    field, uint32 [sum of lengths] or [sum of lengths, 2].
    """
    try:
        tokenizer = load_tokenizer(Path(directory))
        described = describe_tokenizer(tokenizer)
    except CheckpointRejected as error:
        return {"rejected": [error.code, error.detail]}
    channel.say({"found": asdict(described), "model_max_length": min(tokenizer.model_max_length, 2**53)})
    while True:
        method, argument, options, cpu_seconds = channel.asked()
        channel.allow(cpu_seconds)
        try:
            answer = getattr(tokenizer, method)(argument, **options)
            numbers = [] if isinstance(answer, str) else [_numbers(rows) for rows in answer.values()]
        except MemoryError:
            raise
        except BaseException:  # noqa: BLE001 - as above
            channel.say({"failed": True})
            continue
        if isinstance(answer, str):
            channel.say({"text": answer})
            continue
        channel.say({"lengths": [len(row) for row in answer["input_ids"]], "fields": list(answer)})
        for each in numbers:
            channel.send(each)


def _numbers(rows: Sequence[Sequence[Any]]) -> bytes:
    return np.concatenate([np.asarray(row, dtype=np.uint32).ravel() for row in rows]).tobytes()


PROGRAMS: Final[Mapping[str, Callable[[Channel, str], Any]]] = {"inspect": inspect, "tokenize": tokenize}
