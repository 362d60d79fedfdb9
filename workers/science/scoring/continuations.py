"""Log-likelihoods of continuations: what is said after a context, where only the continuation counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import SpecialTokens, tokenize, within_vocabulary
from workers.science.progress import counted_from
from workers.science.scoring.batching import Window
from workers.science.scoring.forward import Ledger, TextTokens, score_tokens
from workers.science.scoring.likelihood import Wanted
from workers.science.scoring.prefix_token import PrefixToken


@dataclass(frozen=True, slots=True)
class Continuation:
    """`text` after `context`, which may be empty."""

    context: str
    text: str


def continuation_log_likelihoods(
    language_model: LanguageModel,
    continuations: Sequence[Continuation],
    prefix_token: PrefixToken,
    special_tokens: SpecialTokens,
    on_progress: Callable[[int], None],
) -> list[float | None]:
    """The sum over each continuation's tokens of log p(token | what precedes it): in nats, at most 0.

    As lm-evaluation-harness 0.4.13 scores a request `loglikelihood`: the context is tokenized by itself,
    without the spaces at its end, and what context and continuation as one text have beyond as many tokens is
    scored after it. A context that is too long is cut from the left. A continuation after nothing is
    conditioned on the prefix token, even if that otherwise conditions nothing but first tokens.

    Args:
        language_model: the model.
        continuations: what is scored.
        prefix_token: what stands before a context.
        special_tokens: what the string of a special token becomes; see `tokenize`.
        on_progress: told how many continuations are done, after each batch; may raise to stop the work.

    Returns:
        One number each, in order; None where no token is left to score, or one is outside the vocabulary.

    Raises:
        ScoreNotFinite: the model gives NaN or infinity.
    """
    requests = [
        _Request(before.token_ids, whole.token_ids[len(before.token_ids) :])
        for before, whole in zip(
            tokenize(language_model.tokenizer, [c.context.rstrip() for c in continuations], special_tokens),
            tokenize(language_model.tokenizer, [c.context + c.text for c in continuations], special_tokens),
            strict=True,
        )
    ]
    scorable = [
        place for place, request in enumerate(requests) if request.scorable(language_model.vocabulary_size)
    ]
    found: list[float | None] = [None] * len(continuations)
    n_done = len(continuations) - len(scorable)
    for after_nothing in (False, True):
        places = [place for place in scorable if (len(requests[place].before) == 0) is after_nothing]
        front = _before_nothing(prefix_token) if after_nothing else prefix_token
        room = language_model.context_length + 1 - len(front.in_front)
        numbers = _score(
            language_model,
            [requests[place].within(room) for place in places],
            front,
            counted_from(n_done, on_progress),
        )
        for place, number in zip(places, numbers, strict=True):
            found[place] = number
        n_done += len(places)
    return found


@dataclass(frozen=True, slots=True)
class _Request:
    """The tokens of a continuation, `scored` int64 [n], and of what it comes after, `before` int64 [m]."""

    before: TokenIds
    scored: TokenIds

    def scorable(self, vocabulary_size: int) -> bool:
        token_ids = np.concatenate((self.before, self.scored))
        return len(self.scored) > 0 and within_vocabulary(token_ids, vocabulary_size)

    def within(self, room: int) -> Self:
        """As much as there is room for, but one token before the first that is scored."""
        kept = max(room - len(self.scored), min(1, len(self.before)))
        return replace(self, before=self.before[max(0, len(self.before) - kept) :])


def _before_nothing(prefix_token: PrefixToken) -> PrefixToken:
    """As a prompt by itself the prefix token stands in front of all that follows."""
    return replace(prefix_token, conditions="all") if prefix_token.ids else prefix_token


def _score(
    language_model: LanguageModel,
    requests: Sequence[_Request],
    prefix_token: PrefixToken,
    on_progress: Callable[[int], None],
) -> list[float]:
    """The sums over the scored tokens."""
    ledger = Ledger(
        [TextTokens(np.concatenate((request.before, request.scored)), []) for request in requests],
        frozenset(),
    )
    lengths = np.diff(ledger.starts).tolist()
    n_done = 0

    def count(windows: list[Window]) -> None:
        nonlocal n_done
        # The last token of a text is never an input.
        n_done += sum(w.end == len(prefix_token.in_front) + lengths[w.text] - 1 for w in windows)
        on_progress(n_done)

    score_tokens(
        language_model,
        ledger,
        prefix_token,
        wanted=Wanted(),
        batch_tokens=None,
        on_batch=count,
    )
    return [
        float(ledger.log_likelihood[ledger.of(place)][len(request.before) :].sum(dtype=np.float64))
        for place, request in enumerate(requests)
    ]
