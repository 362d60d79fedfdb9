"""ReCaLL's shots: texts that are no members stand before a text, to see what changes (arXiv 2406.15968)."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import SpecialTokens, tokenize, within_vocabulary
from workers.science.scoring.forward import Ledger, TextTokens, score_tokens
from workers.science.scoring.likelihood import NOTHING_MORE
from workers.science.scoring.prefix_token import PrefixToken

# The paper's figures level off at about as many shots; the other half of the context is for the text.
MOST_SHOTS: Final = 10
SHARE_OF_CONTEXT: Final = 0.5


def choose_shots(
    language_model: LanguageModel, controls: Sequence[str], special_tokens: SpecialTokens
) -> tuple[str, ...]:
    """The leading control texts that serve as shots: at most MOST_SHOTS, in SHARE_OF_CONTEXT of the context.

    None if not even the first fits, or if all that fit have no tokens. A text with a token that the model has
    no row for ends them as well.
    """
    room = whole = int(SHARE_OF_CONTEXT * language_model.context_length)
    chosen: list[str] = []
    leading = controls[:MOST_SHOTS]
    for text, tokens in zip(
        leading, tokenize(language_model.tokenizer, leading, special_tokens), strict=True
    ):
        n_tokens = len(tokens.token_ids)
        known = n_tokens == 0 or within_vocabulary(tokens.token_ids, language_model.vocabulary_size)
        if n_tokens > room or not known:
            break
        room -= n_tokens
        chosen.append(text)
    return tuple(chosen) if room < whole else ()


def score_after_shots(
    language_model: LanguageModel,
    texts: Sequence[TokenIds],
    shots: Sequence[str],
    prefix_token: PrefixToken,
    *,
    special_tokens: SpecialTokens,
    batch_tokens: int | None,
    on_batch: Callable[[], None],
) -> list[npt.NDArray[np.float32]]:
    """Score the first tokens of each text after the shots, as many as the context has room for.

    Args:
        language_model: the model.
        texts: their tokens, int64 [n] each.
        shots: texts that stand before each, one after the other; together they leave room for a token.
        prefix_token: what stands before the shots.
        special_tokens: what the string of a special token inside a shot becomes.
        batch_tokens: tokens in a batch with padding; by default what suits the device.
        on_batch: called after each batch; may raise to stop.

    Returns:
        For each text the log-likelihoods of its first tokens, float32 [at most n].

    Raises:
        ScoreNotFinite: `log_likelihood_not_finite`.
    """
    tokenized = tokenize(language_model.tokenizer, shots, special_tokens)
    before = np.concatenate(
        [np.asarray(prefix_token.in_front, np.int64), *(each.token_ids for each in tokenized)]
    )
    # What the context has room for is one window, whose last token is predicted and not seen.
    room = language_model.context_length + 1 - len(before)
    ledger = Ledger([TextTokens(token_ids[:room], []) for token_ids in texts], frozenset())
    score_tokens(
        language_model,
        ledger,
        PrefixToken(tuple(before.tolist()), "all"),
        wanted=NOTHING_MORE,
        batch_tokens=batch_tokens,
        on_batch=lambda _: on_batch(),
    )
    return [ledger.log_likelihood[ledger.of(place)] for place in range(len(texts))]
