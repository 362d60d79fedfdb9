"""Texts as tokens for everything but scoring: packed into blocks for curvature, or one text a row.

Shapes: N blocks or rows, T places.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from workers.science.errors import ScienceError, TokenOutsideVocabulary
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import token_ids_of, within_vocabulary
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.texts import PrefixTokenChoice

_TEXTS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 2**20
_FOUR_BYTES, _EIGHT_BYTES = "i", "q"  # codes of array
_NO_ROW = (
    "The tokenizer yields token ids that the model has no row for. Use the tokenizer that the model was "
    "trained with, or leave out the texts that need them: an audit of the set names these."
)


class Rows(Protocol):
    """Rows of tokens of which some can be taken at a time."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> Tensor:
        """Real tokens of each row: int64 [N]."""

    @property
    def predictions(self) -> int:
        """Places that predict a token."""

    def part(self, rows: Sequence[int] | Tensor) -> "TokenBlocks":
        """Some of the rows, padded."""


@dataclass(frozen=True)
class TokenBlocks:
    """Blocks of tokens, padded on the right.

    Attributes:
        ids: int64 [N, T]; padding holds the model's padding token.
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
    def lengths(self) -> Tensor:
        """Real tokens of each block, those put before texts included: int64 [N]."""
        return self.mask.sum(1)

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

    def part(self, rows: slice | Sequence[int] | Tensor) -> "TokenBlocks":
        """Some of the blocks."""
        return TokenBlocks(self.ids[rows], self.mask[rows])


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens laid end to end, so that a long one costs the others nothing.

    Attributes:
        ids: int32 [tokens].
        starts: int64 [N + 1], where each row begins, and the end.
        padding: the token that pads parts.
    """

    ids: Tensor
    starts: Tensor
    padding: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, those put before texts included: int64 [N]."""
        return self.starts.diff()

    @property
    def predictions(self) -> int:
        """Places that predict a token: all but the last of each row."""
        return len(self.ids) - len(self)

    def part(self, rows: Sequence[int] | Tensor) -> TokenBlocks:
        """Some of the rows, padded to the longest of them."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        starts = self.starts[chosen, None]
        lengths = self.starts[chosen + 1, None] - starts
        places = torch.arange(int(lengths.max()) if len(chosen) else 0)
        mask = places < lengths
        # Beyond a row's end stands whatever comes next, until it is padded.
        ids = self.ids[(starts + places).clamp(max=len(self.ids) - 1)].long()
        return TokenBlocks(ids.where(mask, self.padding), mask)


@dataclass(frozen=True)
class TokenStream:
    """Texts laid end to end, to be cut into blocks.

    Attributes:
        ids: int32 [tokens].
        texts: which texts have tokens, ascending.
        starts: where each of these begins.
        length: tokens of a block.
        padding: the token that pads the last block.
    """

    ids: Tensor
    texts: Sequence[int]
    starts: Sequence[int]
    length: int
    padding: int

    def __len__(self) -> int:
        """How many blocks there are."""
        return (len(self.ids) + self.length - 1) // self.length

    def place(self, block: int) -> tuple[int, int]:
        """Where a block begins: in which text, after how many of its tokens."""
        start = block * self.length
        found = bisect_right(self.starts, start) - 1
        return self.texts[found], start - self.starts[found]

    def blocks(self) -> TokenBlocks:
        """All of it in blocks, the last one padded."""
        count, tokens = len(self), len(self.ids)
        ids = torch.full((count * self.length,), self.padding, dtype=torch.int64)
        ids[:tokens] = self.ids
        mask = torch.arange(count * self.length) < tokens
        return TokenBlocks(ids.view(count, self.length), mask.view(count, self.length))


def stream_texts(
    language_model: LanguageModel,
    texts: Iterable[str],
    *,
    block_tokens: int,
    limit: int | None = None,
    skip: int = 0,
) -> TokenStream:
    """Lay texts end to end, BOS (else EOS) before each as training does, to be cut into blocks.

    The blocks are at most as long as the context. Texts without tokens are left out. No more texts are asked
    for than are needed.

    Args:
        language_model: whose tokens and context.
        texts: the texts.
        block_tokens: tokens in a block.
        limit: how many tokens are wanted at most, in whole blocks; one block is made in any case.
        skip: tokens at the beginning that are not wanted.

    Raises:
        ScienceError: `text_set_empty`, if no text has a token.
        TokenOutsideVocabulary: the model has no row for a token.
        ValueError: if `block_tokens` is below 2.
    """
    length = _row_length(language_model, block_tokens)
    front = (language_model.prefix_token_id,)
    stream = array(_FOUR_BYTES)
    numbers, starts = array(_EIGHT_BYTES), array(_EIGHT_BYTES)
    for number, row in _rows(language_model, texts, front):
        numbers.append(number)
        starts.append(len(stream) - skip)
        stream.extend(row)
        if limit is not None and len(stream) - skip > max(limit, length):
            del stream[skip + max(length, limit // length * length) :]
            break
    if len(stream) <= skip:
        raise _no_tokens()
    ids = torch.frombuffer(stream, dtype=torch.int32)[skip:]
    return TokenStream(ids, numbers, starts, length, language_model.padding_token_id)


def pack_texts(
    language_model: LanguageModel, texts: Iterable[str], *, block_tokens: int, limit: int | None = None
) -> TokenBlocks:
    """The blocks of texts that are laid end to end; see `stream_texts`."""
    return stream_texts(language_model, texts, block_tokens=block_tokens, limit=limit).blocks()


def text_blocks(
    language_model: LanguageModel,
    texts: Iterable[str],
    *,
    max_tokens: int,
    limit: int | None = None,
    prefix_token: PrefixTokenChoice = "auto",  # noqa: S107 - a token of the vocabulary
) -> TokenRows:
    """One text a row, cut to `max_tokens` and to the context.

    A row begins with what stands in front of a text when it is scored: by default what the tokenizer puts
    there, often nothing. Texts of which no token is predicted are left out. No more texts are asked for than
    are needed.

    Args:
        language_model: whose tokens and context.
        texts: the texts.
        max_tokens: tokens in a row.
        limit: how many tokens all rows may have, padding not counted; the first row is made in any case.
        prefix_token: see `resolve_prefix_token`.

    Raises:
        PrefixTokenUnusable: see `resolve_prefix_token`.
        ScienceError: `text_set_empty`, if no text has a token.
        TokenOutsideVocabulary: the model has no row for a token.
        ValueError: if `max_tokens` is below 2.
    """
    length = _row_length(language_model, max_tokens)
    ids, starts = array(_FOUR_BYTES), array(_EIGHT_BYTES, [0])
    front = resolve_prefix_token(prefix_token, language_model).in_front
    for _, row in _rows(language_model, texts, front):
        if limit is not None and ids and len(ids) + min(len(row), length) > limit:
            break
        ids.extend(row[:length])
        starts.append(len(ids))
    if not ids:
        raise _no_tokens()
    return TokenRows(
        torch.frombuffer(ids, dtype=torch.int32),
        torch.frombuffer(starts, dtype=torch.int64),
        language_model.padding_token_id,
    )


def _row_length(language_model: LanguageModel, tokens: int) -> int:
    if tokens < 2:  # noqa: PLR2004  a place and the token that it predicts
        raise ValueError("a block needs at least two tokens to predict one")
    return min(tokens, language_model.context_length)


def _rows(
    language_model: LanguageModel, texts: Iterable[str], front: tuple[int, ...]
) -> Iterator[tuple[int, list[int]]]:
    """The number and the tokens of each text, after those in front, where one of them is predicted."""
    number = count()
    for batch in _batches(texts):
        for token_ids in token_ids_of(language_model.tokenizer, batch):
            text = next(number)
            if token_ids and len(front) + len(token_ids) > 1:
                row = [*front, *token_ids]
                if not within_vocabulary(row, language_model.vocabulary_size):
                    raise TokenOutsideVocabulary("token_outside_vocabulary", _NO_ROW)
                yield text, row


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts that are tokenized at once: up to a number, and until they are long together."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _TEXTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _no_tokens() -> ScienceError:
    return ScienceError("text_set_empty", "None of the texts has a token; give texts with content.")
