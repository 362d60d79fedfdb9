"""The tokenizer of a checkpoint, loaded by transformers and tried out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import AutoTokenizer

from workers.science.errors import CheckpointRejected
from workers.science.models.checked_json import read_checked
from workers.science.models.checkpoint_files import SETTINGS_OF_TOKENIZERS, VOCABULARY_FILES
from workers.science.models.tokenization import count_tokens, tokens_put_in_front

# One long word, where expressions that can be matched in many ways take for ever.
_TRIAL: Final = "a" * 5000 + "!"


@dataclass(frozen=True)
class TokenizerDescription:
    """The special tokens that matter before a text.

    Attributes:
        bos_token_id: beginning of sequence, if the tokenizer has such a token.
        eos_token_id: end of sequence, if it has such a token.
        prefix_token_ids: what it puts before a text by itself; empty if it adds nothing there.
    """

    bos_token_id: int | None
    eos_token_id: int | None
    prefix_token_ids: tuple[int, ...]


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint.

    Its files decide how much time and memory this takes, and every use of it.

    Raises:
        CheckpointRejected: `tokenizer_missing`, `tokenizer_unusable`, or what `read_checked` raises.
    """
    if not any((directory / name).is_file() for name in VOCABULARY_FILES):
        raise CheckpointRejected(
            "tokenizer_missing", "The checkpoint has no tokenizer; add its tokenizer.json."
        )
    for name in SETTINGS_OF_TOKENIZERS:
        if (directory / name).is_file():
            read_checked(directory, name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each tokenizer class fails in its own way on bad files
        raise CheckpointRejected(
            "tokenizer_unusable", "The tokenizer's files cannot be loaded; save them as tokenizer.json."
        ) from error
    if not tokenizer.is_fast or len(tokenizer) == 0:
        raise CheckpointRejected(
            "tokenizer_unusable",
            "The tokenizer has no fast form (tokenizer.json), so tokens have no offsets.",
        )
    return tokenizer


def describe_tokenizer(tokenizer: Any) -> TokenizerDescription:
    """What a tokenizer does before a text, and that it takes texts at all.

    Raises:
        CheckpointRejected: `no_prefix_token`, or `tokenizer_unusable` if it fails at a text.
    """
    prefix_token_id_of(tokenizer)
    try:
        count_tokens(tokenizer, [_TRIAL])
        return TokenizerDescription(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            prefix_token_ids=tokens_put_in_front(tokenizer),
        )
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # each part fails in its own way, and what panics in Rust is no Exception
        raise CheckpointRejected(
            "tokenizer_unusable", "The tokenizer fails at a text of one long word."
        ) from error


def prefix_token_id_of(tokenizer: Any) -> int:
    """BOS, else EOS.

    Raises:
        CheckpointRejected: `no_prefix_token`.
    """
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise CheckpointRejected(
        "no_prefix_token",
        "The tokenizer has neither a BOS nor an EOS token, so a first token cannot be scored.",
    )
