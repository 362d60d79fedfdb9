"""The passages of a document that a model recalls: where greedy decoding recites, and where that begins.

Inside a foreign text a recalled passage is recited late: its first tokens follow from nothing that stands
before them, and the foreign text goes on distracting. So stretches that are recited densely are read once
more, as if a document began there. Where the document begins is a change-point: up to it the tokens are as
likely as the document made them, from it on as likely as after the separator, and the beginning is the token
that makes the whole likeliest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from workers.science.metrics.splits import Split
from workers.science.metrics.tokens import TokenIds, matched_tokens
from workers.science.models.loading import LanguageModel
from workers.science.passages.overlapping import RecalledTokens
from workers.science.scoring.forward import Ledger, TextTokens, score_tokens
from workers.science.scoring.greedy import end_token_ids
from workers.science.scoring.likelihood import Wanted
from workers.science.scoring.prefix_token import PrefixToken
from workers.science.scoring.vocabulary.sampling import Sampling

# A stretch is suspect if so much of it is recited. Held-out text of a small corpus reaches 0.8 in places,
# recalled passages in foreign text 0.78 to 1.
_DENSE: Final = 0.7
# A passage is recited densely from up to so many tokens after its beginning on, or, as a stretch that is
# dense as a whole may begin before it, from so many before.
_LOOK_BACK, _LOOK_AHEAD = 64, 32
# Beginnings are told by the first tokens after them, then, among near ones, by more.
_COARSE_TOKENS: Final = 8
_NEAR, _FINE_TOKENS = 8, 24
# A surprising token of the foreign text, such as a break, is no sign of a beginning: at most so much of it
# counts, in nats.
_MOST_SURPRISE: Final = 4.0
# A passage whose recitation begins later than this after its beginning is not one with it.
_LONGEST_BEGINNING: Final = 64
# One suspect costs about 1,500 tokens of forward pass; a document is worth one, and one more for each of
# so many tokens.
_TOKENS_A_SUSPECT: Final = 5000


@dataclass(frozen=True, slots=True)
class Span:
    """A recalled passage, the tokens [start, stop) of a document, and those recited without a mistake in it.

    Before the recited tokens it holds a beginning of at most 64 tokens, which is not recited.

    Attributes:
        start: where the passage most likely begins; `run_start` where no beginning was found.
        stop: where it ends: the last token that is recited.
        run_start: the first of the tokens that greedy decoding recites.
        run_stop: past the last of them.
        log_p: natural logarithm of the probability that the client's decoding draws these, given what is
            before them.
        after: what the model saw before them: the `document`, or the `separator` and the passage alone.
    """

    start: int
    stop: int
    run_start: int
    run_stop: int
    log_p: float
    after: Literal["document", "separator"]

    @property
    def run_tokens(self) -> int:
        """How many tokens are recited without a mistake."""
        return self.run_stop - self.run_start

    def meets(self, other: "Span") -> bool:
        """Whether two passages have a token in common."""
        return self.start < other.stop and other.start < self.stop


class Document:
    """A document to find recalled passages in.

    Args:
        token_ids: int64 [n].
        breaks: bool [n], where a token is nothing but line breaks; no passage begins with one.
        tokens: what the model said of them in place.
    """

    def __init__(self, token_ids: TokenIds, breaks: npt.NDArray[np.bool_], tokens: RecalledTokens) -> None:
        self.token_ids = token_ids
        self.breaks = breaks
        self.tokens = tokens
        self.in_place = np.maximum(tokens.log_likelihood.astype(np.float64), -_MOST_SURPRISE)

    def __len__(self) -> int:
        return len(self.token_ids)


class SpanFinder:
    """Finds the recalled passages of documents under one language model.

    Args:
        language_model: the model.
        prefix_token: what stands before a text; where nothing does, BOS, else EOS, separates documents.
        sampling: the client's decoding.
        at_least: tokens that must be recited one after another.
        on_batch: called after each batch; may raise to stop.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        prefix_token: PrefixToken,
        sampling: Sampling,
        at_least: int,
        on_batch: Callable[[], None],
    ) -> None:
        self._language_model = language_model
        self._separator = PrefixToken(prefix_token.ids or (language_model.prefix_token_id,), "all")
        self._sampling = sampling
        self._at_least = at_least
        self._on_batch = on_batch

    def find(self, document: Document) -> list[Span]:
        """The recalled passages of a document, in its order; they do not overlap.

        Raises:
            ScoreNotFinite: `log_likelihood_not_finite`.
        """
        in_place = [
            Span(
                start,
                stop,
                start,
                stop,
                _sum(document.tokens.sampling_log_likelihood, start, stop),
                "document",
            )
            for start, stop in document.tokens.runs(self._at_least)
        ]
        return merged(self._from_beginnings(document), in_place)

    def _from_beginnings(self, document: Document) -> list[Span]:
        """The passages in stretches that are recited densely, the densest first."""
        found: list[Span] = []
        recited = document.tokens.recited.astype(np.int64)
        for _ in range(1 + len(document) // _TOKENS_A_SUSPECT):
            stretch = densest_stretch(recited, self._at_least)
            if stretch is None:
                break
            first, peak = stretch
            span = self._read(document, self._beginning(document, first))
            if span is None or any(map(span.meets, found)):
                recited[peak : peak + self._at_least] = 0
            else:
                found.append(span)
                recited[span.start : span.stop] = 0
        return found

    def _beginning(self, document: Document, first: int) -> int:
        """The token at which a passage that is recited densely from `first` on most likely begins."""
        coarse = np.arange(max(0, first - _LOOK_BACK), min(first + _LOOK_AHEAD, len(document)))
        near = self._likeliest(document, coarse, coarse + _COARSE_TOKENS)
        fine = np.arange(max(0, near - _NEAR), min(near + _NEAR + 1, len(document)))
        return self._likeliest(document, fine, np.full(len(fine), near + _FINE_TOKENS))

    def _likeliest(
        self, document: Document, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
    ) -> int:
        """The start whose tokens, up to its stop, gain most by being read as the beginning of a document."""
        allowed = ~document.breaks[starts]
        if allowed.any():
            starts, stops = starts[allowed], stops[allowed]
        rows = [document.token_ids[start:stop] for start, stop in zip(starts, stops, strict=True)]
        ledger = self._score(rows, sampling=None)
        gains = [
            float(ledger.log_likelihood[ledger.of(row)].sum(dtype=np.float64))
            - float(document.in_place[start:stop].sum())
            for row, (start, stop) in enumerate(zip(starts, stops, strict=True))
        ]
        return int(starts[int(np.argmax(gains))])

    def _read(self, document: Document, start: int) -> Span | None:
        """What is recited first of a passage that begins at `start`, read by itself.

        None if that is too little, or begins too late to belong to this beginning. What is recited after a
        mistake is another passage.
        """
        room = self._language_model.context_length - len(self._separator.ids)
        ledger = self._score([document.token_ids[start : start + room + 1]], sampling=self._sampling)
        read = RecalledTokens.of(ledger, ledger.of(0))
        runs = read.runs(self._at_least)
        if not runs or runs[0][0] > _LONGEST_BEGINNING:
            return None
        run_start, run_stop = runs[0]
        log_p = _sum(read.sampling_log_likelihood, run_start, run_stop)
        stop = start + run_stop
        if run_stop == len(read.recited) and not read.ends[-1]:
            # The context is full, but the document itself has become the context by now.
            more = matched_tokens(document.tokens.recited[stop:], document.tokens.ends[stop:])
            log_p += _sum(document.tokens.sampling_log_likelihood, stop, stop + more)
            stop += more
        return Span(start, stop, start + run_start, stop, log_p, "separator")

    def _score(self, rows: Sequence[TokenIds], *, sampling: Sampling | None) -> Ledger:
        ledger = Ledger(
            [TextTokens(row, [Split("ok", 0, len(row))]) for row in rows], end_token_ids(self._language_model)
        )
        score_tokens(
            self._language_model,
            ledger,
            self._separator,
            wanted=Wanted(choice=sampling is not None, sampling=sampling),
            batch_tokens=None,
            on_batch=lambda _: self._on_batch(),
        )
        return ledger


def merged(from_beginnings: Sequence[Span], in_place: Sequence[Span]) -> list[Span]:
    """All passages in order, those with a token in common as one.

    Of what is recited in such a passage, the longer run is shown.

    Args:
        from_beginnings: passages that do not meet each other.
        in_place: likewise, those recited after the document itself.
    """
    found: list[Span] = []
    for span in sorted([*in_place, *from_beginnings], key=lambda span: span.start):
        if found and found[-1].meets(span):
            last = found[-1]
            shown = max(last, span, key=lambda each: (each.run_tokens, each.after == "document"))
            found[-1] = replace(shown, start=last.start, stop=max(last.stop, span.stop))
        else:
            found.append(span)
    return found


def densest_stretch(recited: npt.NDArray[np.int64], length: int) -> tuple[int, int] | None:
    """The stretch of `length` tokens of which most are recited, if those are enough to be suspect.

    Args:
        recited: int64 [n], 1 where a token is recited, else 0.
        length: of the stretch.

    Returns:
        Where the dense stretches around it begin, and where itself does.
    """
    sums = np.concatenate(([0], np.cumsum(recited)))
    counts = sums[length:] - sums[:-length]
    if len(counts) == 0 or counts.max() < _DENSE * length:
        return None
    peak = int(np.argmax(counts))
    sparse = np.flatnonzero(counts[:peak] < _DENSE * length)
    return (int(sparse[-1]) + 1 if len(sparse) else 0), peak


def _sum(numbers: npt.NDArray[np.float32], start: int, stop: int) -> float:
    return float(numbers[start:stop].sum(dtype=np.float64))
