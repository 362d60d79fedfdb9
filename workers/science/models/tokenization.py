"""Texts to tokens, without the special tokens that a tokenizer would add."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

SpecialTokens = Literal["control", "text"]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a text.

    Attributes:
        token_ids: int64 [n_tokens].
        offsets: int32 [n_tokens, 2], first and past-the-last character of each token.
    """

    token_ids: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int32]

    def tokens_within(self, n_chars: int) -> int:
        """How many tokens lie wholly within the first `n_chars` characters."""
        return int(np.count_nonzero(self.offsets[:, 1] <= n_chars))


def tokenize(
    tokenizer: Any, texts: Sequence[str], special_tokens: SpecialTokens = "control"
) -> list[TokenizedText]:
    """Tokenize texts in one call, in their order.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: the texts.
        special_tokens: what the string of a special token inside a text becomes, such as `<|endoftext|>`:
            `control` that token, as transformers has it by default; `text` the ordinary tokens of its
            characters.
    """
    encoded = _encode(tokenizer, texts, special_tokens, offsets=True)
    return [
        TokenizedText(
            token_ids=np.asarray(token_ids, dtype=np.int64),
            offsets=np.asarray(offsets, dtype=np.int32).reshape(-1, 2),
        )
        for token_ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def count_tokens(
    language_model_or_tokenizer: Any, texts: Sequence[str], special_tokens: SpecialTokens = "control"
) -> list[int]:
    """The number of tokens of each text."""
    tokenizer = getattr(language_model_or_tokenizer, "tokenizer", language_model_or_tokenizer)
    encoded = _encode(tokenizer, texts, special_tokens, offsets=False)
    return [len(token_ids) for token_ids in encoded["input_ids"]]


def token_ids_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text; the string of a special token inside one is that token."""
    encoded = _encode(tokenizer, texts, "control", offsets=False)
    return [np.asarray(token_ids, dtype=np.int64).tolist() for token_ids in encoded["input_ids"]]


def within_vocabulary(token_ids: Sequence[int] | npt.NDArray[np.int64], vocabulary_size: int) -> bool:
    """Whether the model has a row for each of some tokens; there must be one at least.

    To look up a token without a row is an error on a CPU; on a GPU the process can do nothing any more.
    Tokenizers of extended or mismatched checkpoints give such tokens.
    """
    return int(np.max(token_ids)) < vocabulary_size


def tokens_put_in_front(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that a tokenizer puts before a text by itself; empty if it adds none there."""
    encoded = tokenizer("a", add_special_tokens=True, return_special_tokens_mask=True)
    marked = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    return tuple(token_id for token_id, is_special in takewhile(lambda token: token[1], marked))


def _encode(tokenizer: Any, texts: Sequence[str], special_tokens: SpecialTokens, *, offsets: bool) -> Any:
    if not texts:
        return {"input_ids": [], "offset_mapping": []}
    return tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=offsets,
        split_special_tokens=special_tokens == "text",
        verbose=False,
    )
