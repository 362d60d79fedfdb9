"""One pass over whole documents in which every token sees at least so many tokens before it.

Windows at every stride of a document share most of their tokens. Scored one by one they would cost a pass
each; here the document is cut into chunks as long as the context that overlap, and each token is scored
once, in the first chunk that holds it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.science.metrics.splits import Split
from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.scoring.batching import Window
from workers.science.scoring.forward import Ledger, TextTokens, score_tokens
from workers.science.scoring.greedy import end_token_ids
from workers.science.scoring.likelihood import Wanted
from workers.science.scoring.prefix_token import PrefixToken
from workers.science.scoring.vocabulary.sampling import Sampling

# Chunks that overlap by more than this share of the context would cost more than four plain passes.
_LARGEST_OVERLAP: Final = 0.75


@dataclass(frozen=True, slots=True)
class RecalledTokens:
    """What a language model said of the n tokens of a document.

    Attributes:
        log_likelihood: float32 [n], natural logarithm; 0 for a first token that nothing conditions.
        recited: bool [n], where the token is the greedy choice; False for a token that is not scored.
        ends: bool [n], where the token is one after which generation stops.
        sampling_log_likelihood: float32 [n], log-probability that the client's decoding draws the token;
            -inf if it never does, NaN for a token that is not scored.
    """

    log_likelihood: npt.NDArray[np.float32]
    recited: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.bool_]
    sampling_log_likelihood: npt.NDArray[np.float32]

    @classmethod
    def of(cls, ledger: Ledger, places: npt.NDArray[np.int64] | slice) -> "RecalledTokens":
        """The tokens at some places of a ledger."""
        return cls(
            log_likelihood=ledger.log_likelihood[places],
            recited=ledger.choice[places] == ledger.token_ids[places],
            ends=ledger.ends[places],
            sampling_log_likelihood=ledger.sampling_log_likelihood[places],
        )

    def runs(self, at_least: int) -> list[tuple[int, int]]:
        """The longest stretches [start, stop) that greedy decoding recites; an end token ends one."""
        starts = self.recited & np.concatenate(([True], ~self.recited[:-1] | self.ends[:-1]))
        stops = self.recited & np.concatenate((~self.recited[1:] | self.ends[:-1], [True]))
        bounds = zip(np.flatnonzero(starts).tolist(), (np.flatnonzero(stops) + 1).tolist(), strict=True)
        return [(start, stop) for start, stop in bounds if stop - start >= at_least]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tokens [start, stop) of a document; those from `first_new` on are not in earlier chunks."""

    start: int
    stop: int
    first_new: int


def overlap_of_chunks(room: int, prefix_tokens: int, suffix_tokens: int) -> int | None:
    """How many tokens before it every token sees at least, where the document has as many.

    All of a window that is before its last token, `prefix_tokens + suffix_tokens - 1`, where that is at most
    half the room: then every token of every window sees the whole window before it. In a shorter context
    half the room, so that the pass costs two plain ones, but never less than the prefix.

    Args:
        room: the document's tokens that the model sees at once.
        prefix_tokens: of a window.
        suffix_tokens: of a window.

    Returns:
        None if the prefix leaves too little of the room.
    """
    overlap = min(prefix_tokens + suffix_tokens - 1, max(prefix_tokens, room // 2))
    return overlap if overlap <= _LARGEST_OVERLAP * room else None


def cut_chunks(n_tokens: int, room: int, overlap: int) -> Iterator[Chunk]:
    """Cut a document into chunks of `room` inputs that each overlap the one before.

    A chunk has a token more than inputs: its last is only predicted.
    """
    chunk = Chunk(0, min(n_tokens, room + 1), 0)
    yield chunk
    while chunk.stop < n_tokens:
        start = chunk.stop - overlap
        chunk = Chunk(start, min(n_tokens, start + room + 1), chunk.stop)
        yield chunk


def recall_documents(
    language_model: LanguageModel,
    documents: Sequence[TokenIds],
    prefix_token: PrefixToken,
    sampling: Sampling,
    *,
    overlap: int,
    batch_tokens: int | None,
    on_progress: Callable[[int], None],
) -> list[RecalledTokens]:
    """Score every token of whole documents once, with at least `overlap` tokens before it.

    A document's first tokens see all there is before them. What stands in front of a text stands in front of
    every chunk too, as it would in front of a prompt that begins there. The pass costs room / (room -
    overlap) of a plain one.

    Args:
        language_model: the model.
        documents: tokens of each, int64 [n], at least one.
        prefix_token: what stands before a text.
        sampling: the client's decoding.
        overlap: see `overlap_of_chunks`.
        batch_tokens: tokens in a batch with padding; by default what suits the device.
        on_progress: told how many documents are done, after each batch; may raise to stop.

    Raises:
        ScoreNotFinite: `log_likelihood_not_finite`.
    """
    room = language_model.context_length - len(prefix_token.in_front)
    chunks = [list(cut_chunks(len(tokens), room, overlap)) for tokens in documents]
    owners = [document for document, cut in enumerate(chunks) for _ in cut]
    texts = [
        TextTokens(
            tokens[chunk.start : chunk.stop],
            [Split("ok", chunk.first_new - chunk.start, chunk.stop - chunk.first_new)],
        )
        for tokens, cut in zip(documents, chunks, strict=True)
        for chunk in cut
    ]
    ledger = Ledger(texts, end_token_ids(language_model))
    front = len(prefix_token.in_front)
    windows = [
        Window(number, 0, end, min(text.splits[0].suffix_tokens, end))
        for number, text in enumerate(texts)
        if (end := front + len(text.token_ids) - 1)
    ]
    left = np.bincount([owners[window.text] for window in windows], minlength=len(documents))

    def count(windows: list[Window]) -> None:
        for window in windows:
            left[owners[window.text]] -= 1
        on_progress(int((left == 0).sum()))

    score_tokens(
        language_model,
        ledger,
        prefix_token,
        wanted=Wanted(choice=True, sampling=sampling),
        batch_tokens=batch_tokens,
        on_batch=count,
        windows=windows,
    )
    numbers = iter(range(len(texts)))
    return [
        RecalledTokens.of(
            ledger,
            np.concatenate([_new_places(ledger, next(numbers), chunk) for chunk in cut]),
        )
        for cut in chunks
    ]


def _new_places(ledger: Ledger, number: int, chunk: Chunk) -> npt.NDArray[np.int64]:
    """Where the ledger has the tokens of a chunk that are not in earlier ones."""
    start, stop = int(ledger.starts[number]), int(ledger.starts[number + 1])
    return np.arange(start + chunk.first_new - chunk.start, stop)
