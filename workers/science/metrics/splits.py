"""Where a text is split into a prefix, which is the prompt, and a suffix that may be recited.

Sources: Carlini et al., arXiv 2202.07646; arXiv 2510.24256 (64 and 48 tokens).
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

SplitStatus = Literal["ok", "scaled", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Split:
    """Where a text is split for extraction: its first tokens are the prefix, the next ones the suffix.

    `ok` is the split that was asked for. `scaled` is a smaller one, because the text or the context is too
    short for it. `not_applicable` means that no token would be left to recite; both lengths are then 0.
    """

    status: SplitStatus
    prefix_tokens: int = 0
    suffix_tokens: int = 0

    @property
    def applicable(self) -> bool:
        """Whether there is a suffix."""
        return self.status != "not_applicable"

    @property
    def suffix(self) -> slice:
        """The places of the suffix among the text's tokens."""
        return slice(self.prefix_tokens, self.prefix_tokens + self.suffix_tokens)


NOT_APPLICABLE = Split("not_applicable")


@dataclass(frozen=True, slots=True)
class Splittable:
    """A text to split, and the split that was asked for.

    Attributes:
        n_tokens: of the text.
        context_length: tokens that the model sees at once.
        in_front: tokens that stand before the text and are part of its prompt.
        boundary: the token at which the client split this text; None if it did not.
        prefix_tokens: prompt that was asked for, for texts that the client did not split.
        suffix_tokens: tokens to recite after it.
    """

    n_tokens: int
    context_length: int
    in_front: int
    boundary: int | None
    prefix_tokens: int
    suffix_tokens: int

    @property
    def room(self) -> int:
        """For how many of its tokens the context has room: those seen, and the one that the last predicts."""
        return self.context_length + 1 - self.in_front

    def as_asked(self) -> Split:
        """The split that was asked for, or what there is room for of it.

        A prompt without a token is none: where nothing stands in front of it, no split is applicable.
        """
        if self.boundary is None:
            split = split_by_length(self.n_tokens, self.room, self.prefix_tokens, self.suffix_tokens)
        else:
            split = split_at(self.boundary, self.n_tokens, self.room)
        return split if split.prefix_tokens + self.in_front else NOT_APPLICABLE


def split_by_length(n_tokens: int, room: int, prefix_tokens: int, suffix_tokens: int) -> Split:
    """Split a text after its first `prefix_tokens`, or in the same proportion if there is less room.

    The room is the number of the text's tokens that the context has room for, the last predicted one
    included. With less of it, or fewer tokens, than both lengths together, the prefix takes its share,
    rounded down, and the suffix the rest; at least two tokens are needed for that, one on each side (unless
    no prefix was asked for).
    """
    room = min(n_tokens, room)
    asked = prefix_tokens + suffix_tokens
    if room >= asked:
        return Split("ok", prefix_tokens, suffix_tokens)
    scaled_prefix = max(min(prefix_tokens, 1), room * prefix_tokens // asked)
    if scaled_prefix >= room:
        return NOT_APPLICABLE
    return Split("scaled", scaled_prefix, room - scaled_prefix)


def split_at(boundary: int, n_tokens: int, room: int) -> Split:
    """Split a text at a token that the client chose; the suffix is cut short where the room ends."""
    end = min(n_tokens, room)
    if boundary >= end:
        return NOT_APPLICABLE
    return Split("ok" if end == n_tokens else "scaled", boundary, end - boundary)


class SplitTally:
    """How many texts were split in which way."""

    def __init__(self) -> None:
        self._counts: Counter[SplitStatus] = Counter()

    def add(self, status: SplitStatus) -> None:
        """Count one text."""
        self._counts[status] += 1

    def result(self) -> dict[str, int] | None:
        """The texts by status; None if there was none."""
        return {status: self._counts[status] for status in get_args(SplitStatus)} if self._counts else None
