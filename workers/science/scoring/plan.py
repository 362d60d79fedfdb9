"""What scoring will do with each text: where it is split, which tokens it may recite."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from workers.science.metrics.metric import Need
from workers.science.metrics.registry import METRICS
from workers.science.metrics.splits import NOT_APPLICABLE, Split, Splittable
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import TokenizedText, within_vocabulary
from workers.science.scoring.batching import cut_windows
from workers.science.scoring.forward import TextTokens
from workers.science.scoring.prefix_token import PrefixToken
from workers.science.scoring.texts import ScoringOptions, TextInput


@dataclass(frozen=True, slots=True)
class TextPlan:
    """A text made ready for the forward pass.

    Attributes:
        tokens: of the text.
        n_bytes: of the text in UTF-8.
        n_tokens: that are scored.
        n_windows: that it will be cut into; 0 if it cannot be scored, or if only its first token is.
        error: why it cannot be scored, as in `TextScore.error`.
        splits: of each metric that was asked for; none if the text cannot be scored.
        continued: the split whose prefix greedy decoding continues, not applicable if no metric needs it.
    """

    tokens: TokenizedText
    n_bytes: int
    n_tokens: int
    n_windows: int = 0
    error: str | None = None
    splits: dict[str, Sequence[Split]] = field(default_factory=dict)
    continued: Split = NOT_APPLICABLE

    def for_forward_pass(self) -> TextTokens:
        """The tokens to score; none if the text cannot be scored."""
        if self.error is not None:
            return TextTokens(self.tokens.token_ids[:0], [])
        return TextTokens(self.tokens.token_ids, list(chain(*self.splits.values())))


def plan_text(
    text: TextInput,
    tokens: TokenizedText,
    language_model: LanguageModel,
    options: ScoringOptions,
    prefix_token: PrefixToken,
) -> TextPlan:
    """Decide what will be measured on a text."""
    n_bytes = len(text.text.encode())
    n_tokens = len(tokens.token_ids)
    n_scored = prefix_token.scored_tokens(n_tokens)
    if n_tokens == 0:
        return TextPlan(tokens, n_bytes, n_scored, error="no_tokens")
    if not within_vocabulary(tokens.token_ids, language_model.vocabulary_size):
        return TextPlan(tokens, n_bytes, n_scored, error="token_outside_vocabulary")
    if n_scored == 0:
        return TextPlan(tokens, n_bytes, n_scored, error="only_first_token")
    splittable = splittable_text(text, tokens, language_model, options, prefix_token)
    n_in_front = len(prefix_token.in_front)
    return TextPlan(
        tokens,
        n_bytes,
        n_scored,
        n_windows=len(list(cut_windows(0, n_tokens, language_model.context_length, n_in_front))),
        splits={name: METRICS[name].splits(splittable) for name in options.metrics},
        continued=splittable.as_asked() if Need.CONTINUATION in options.needs else NOT_APPLICABLE,
    )


def splittable_text(
    text: TextInput,
    tokens: TokenizedText,
    language_model: LanguageModel,
    options: ScoringOptions,
    prefix_token: PrefixToken,
) -> Splittable:
    """A text of some tokens as metrics split it."""
    n_in_front = len(prefix_token.in_front)
    return Splittable(
        n_tokens=len(tokens.token_ids),
        # The first window's inputs and the token that the last of them predicts.
        room=language_model.context_length + 1 - n_in_front,
        in_front=n_in_front,
        boundary=None if text.prefix is None else tokens.tokens_within(len(text.prefix)),
        prefix_tokens=options.prefix_tokens,
        suffix_tokens=options.suffix_tokens,
    )
