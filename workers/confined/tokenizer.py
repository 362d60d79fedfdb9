"""A tokenizer in a process of its own, where it can be killed: no thread that runs it could be."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from app.errors import TokenizingFailed
from workers.confined.inspection import SILENT_SECONDS, limits_exceeded, limits_for
from workers.confined.process import ConfinedProcess, LimitReached, Limits
from workers.science.errors import CheckpointRejected

# Texts are sent until they are so long together; one that is longer goes alone.
CHARACTERS_AT_ONCE: Final = 2**18
# Slow tokenizers take a second of processor time for half a million characters.
CPU_SECONDS: Final = 5
CHARACTERS_A_SECOND: Final = 50_000
# A token that is being made takes some 400 bytes, and no text has more than some millions of them.
MEMORY_BYTES: Final = 4 * 2**30
# Of waiting for one answer, as a multiple of its processor time: on a busy machine it has to wait for that.
_PATIENCE: Final = 20


class ConfinedTokenizer:
    """Stands for a fast tokenizer of transformers, for as much of it as scoring uses.

    Args:
        directory: the checkpoint, as `opened_checkpoint` gives it; read here and never again.

    Raises:
        CheckpointRejected: see `load_tokenizer`; `limits_exceeded`, if it takes too much memory or time.
        JobCrashed: the process was killed.
    """

    def __init__(self, directory: Path) -> None:
        self.is_alive = True
        limits = limits_for(directory)
        working = Limits(limits.memory_bytes + MEMORY_BYTES, limits.cpu_seconds)
        self._process = ConfinedProcess("tokenize", working, str(directory))
        try:
            said = self._said(SILENT_SECONDS)
        except LimitReached as reached:
            self.close()
            raise limits_exceeded(reached) from None
        except BaseException:
            self.close()
            raise
        if "rejected" in said:
            self.close()
            raise CheckpointRejected(*said["rejected"])
        self.bos_token_id: int | None = said["found"]["bos_token_id"]
        self.eos_token_id: int | None = said["found"]["eos_token_id"]
        self.model_max_length: int = said["model_max_length"]

    def __call__(self, texts: str | Sequence[str], **options: Any) -> dict[str, Any]:
        """Tokenize; numbers of a text are a list, those of texts uint32 [n_tokens] or [n_tokens, 2] each.

        Raises:
            TokenizingFailed: it fails at a text, or takes too much memory or time.
            JobCrashed: the process was killed.
        """
        if isinstance(texts, str):
            return {name: rows[0].tolist() for name, rows in self([texts], **options).items()}
        encoded: dict[str, list[Any]] = {}
        for part in _parts(texts):
            for name, rows in self._encode(part, options).items():
                encoded.setdefault(name, []).extend(rows)
        return encoded

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        """The text of tokens.

        Raises:
            TokenizingFailed, JobCrashed: as above.
        """
        text: str = self._ask("decode", list(token_ids), options, len(token_ids))["text"]
        return text

    def close(self) -> None:
        """End the process."""
        self.is_alive = False
        self._process.close()

    def _encode(self, texts: Sequence[str], options: dict[str, Any]) -> dict[str, list[Any]]:
        said = self._ask("__call__", list(texts), options, sum(map(len, texts)))
        ends = np.cumsum(said["lengths"])[:-1]
        encoded = {}
        for name in said["fields"]:
            numbers = np.frombuffer(self._process.answer(SILENT_SECONDS), dtype=np.uint32)
            if name == "offset_mapping":
                numbers = numbers.reshape(-1, 2)
            encoded[name] = np.split(numbers, ends)
        return encoded

    def _ask(self, method: str, argument: Any, options: dict[str, Any], n_characters: int) -> dict[str, Any]:
        """What the process says to a question; if that cannot be had, it is ended."""
        cpu_seconds = CPU_SECONDS + n_characters // CHARACTERS_A_SECOND
        try:
            self._process.ask((method, argument, options, cpu_seconds))
            said = self._said(_PATIENCE * cpu_seconds)
        except LimitReached as reached:
            self.close()
            limit = f"{cpu_seconds} seconds" if reached.of == "time" else f"{MEMORY_BYTES // 2**30} GiB"
            raise TokenizingFailed(
                f"The tokenizer of the language model takes more than {limit} for {n_characters} characters "
                "of the texts. Leave out texts with very long words, or register the checkpoint with another "
                "tokenizer."
            ) from None
        except BaseException:
            self.close()  # what it says next would not be what is asked next
            raise
        if "failed" in said:
            raise TokenizingFailed(
                "The tokenizer of the language model fails at one of the texts; register the checkpoint with "
                "another tokenizer."
            )
        return said

    def _said(self, silent_seconds: float) -> dict[str, Any]:
        said: dict[str, Any] = orjson.loads(self._process.answer(silent_seconds))
        return said


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > CHARACTERS_AT_ONCE:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
