"""Texts as blocks of tokens: packed for calibration, or one text a row.

Shapes: N blocks, T places.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from workers.science.errors import ScienceError
from workers.science.loading import LanguageModel
from workers.science.prefix_token import resolve_prefix_token
from workers.science.texts import PrefixTokenChoice

_TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class TokenBlocks:
    """Blocks of tokens, padded on the right.

    Attributes:
        ids: int64 [N, T]; padding holds the prefix token.
        mask: bool [N, T], True at real tokens.
    """

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Real tokens, those put before texts included."""
        return int(self.mask.sum())

    @property
    def predicts(self) -> Tensor:
        """Where a place and its successor are real, so that it predicts a token: bool [N, T]."""
        followed = torch.zeros_like(self.mask)
        followed[:, :-1] = self.mask[:, 1:]
        return followed & self.mask

    @property
    def labels(self) -> Tensor:
        """The token after each place, 0 after the last: int64 [N, T]."""
        following = torch.zeros_like(self.ids)
        following[:, :-1] = self.ids[:, 1:]
        return following

    @property
    def predictions(self) -> int:
        """Places that predict a token."""
        return int(self.predicts.sum())

    def first_tokens(self, count: int) -> "TokenBlocks":
        """As many whole blocks as have room for `count` places, at least one."""
        return self.part(slice(0, max(1, count // self.ids.shape[1])))

    def part(self, rows: slice | Tensor) -> "TokenBlocks":
        """Some of the blocks."""
        return TokenBlocks(self.ids[rows], self.mask[rows])


def pack_texts(language_model: LanguageModel, texts: Iterable[str], *, block_tokens: int) -> TokenBlocks:
    """Lay texts end to end, BOS (else EOS) before each as training does, and cut the stream into blocks.

    The blocks are at most as long as the context; the last one is padded. Texts without tokens are left out.

    Raises:
        ScienceError: `calibration_empty`, if no text has a token.
        ValueError: if `block_tokens` is below 2.
    """
    length = _row_length(language_model, block_tokens)
    front = (language_model.prefix_token_id,)
    stream = [token for row in _rows(language_model, texts, front) for token in row]
    return _pad(
        language_model, [stream[start : start + length] for start in range(0, len(stream), length)], length
    )


def text_blocks(
    language_model: LanguageModel,
    texts: Iterable[str],
    *,
    max_tokens: int,
    prefix_token: PrefixTokenChoice = "auto",  # noqa: S107 - a token of the vocabulary
) -> TokenBlocks:
    """One text a row, cut to `max_tokens` and to the context.

    A row begins with what stands in front of a text when it is scored: by default what the tokenizer puts
    there, often nothing. Texts of which no token is predicted are left out. The rows are as long as the
    longest.

    Raises:
        PrefixTokenUnusable: see `resolve_prefix_token`.
        ScienceError: `calibration_empty`, if no text has a token.
        ValueError: if `max_tokens` is below 2.
    """
    length = _row_length(language_model, max_tokens)
    front = resolve_prefix_token(prefix_token, language_model).in_front
    rows = [row[:length] for row in _rows(language_model, texts, front)]
    return _pad(language_model, rows, max(map(len, rows), default=0))


def _row_length(language_model: LanguageModel, tokens: int) -> int:
    if tokens < 2:  # noqa: PLR2004  a place and the token that it predicts
        raise ValueError("a block needs at least two tokens to predict one")
    return min(tokens, language_model.context_length)


def _rows(language_model: LanguageModel, texts: Iterable[str], front: tuple[int, ...]) -> Iterator[list[int]]:
    """The tokens of each text after those in front, where one of them is predicted."""
    remaining = iter(texts)
    while batch := list(islice(remaining, _TEXTS_AT_ONCE)):
        encoded = language_model.tokenizer(
            batch,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        for token_ids in encoded["input_ids"]:
            if token_ids and len(front) + len(token_ids) > 1:
                yield [*front, *token_ids]


def _pad(language_model: LanguageModel, rows: Sequence[list[int]], length: int) -> TokenBlocks:
    if not rows:
        raise ScienceError("calibration_empty", "None of the texts has a token; give texts with content.")
    ids = torch.full((len(rows), length), language_model.prefix_token_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = True
    return TokenBlocks(ids, mask)
