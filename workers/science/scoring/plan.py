"""What scoring will do with each text: where it is split, which tokens it may recite."""

from dataclasses import dataclass, field

from workers.science.metrics.extraction import (
    NOT_APPLICABLE,
    VERBATIM_PREFIX_TOKENS,
    Split,
    split_at,
    split_by_length,
    split_for_verbatim,
)
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
        extraction: the split of `extraction` and `p_z`, not applicable if neither was asked for.
        verbatim: the splits of `verbatim` by prefix length, empty if not asked for.
    """

    tokens: TokenizedText
    n_bytes: int
    n_tokens: int
    n_windows: int = 0
    error: str | None = None
    extraction: Split = NOT_APPLICABLE
    verbatim: dict[int, Split] = field(default_factory=dict)

    def for_forward_pass(self) -> TextTokens:
        """The tokens to score; none if the text cannot be scored."""
        if self.error is not None:
            return TextTokens(self.tokens.token_ids[:0], [])
        return TextTokens(self.tokens.token_ids, [self.extraction, *self.verbatim.values()])


def plan_text(
    text: TextInput,
    tokens: TokenizedText,
    language_model: LanguageModel,
    options: ScoringOptions,
    prefix_token: PrefixToken,
) -> TextPlan:
    """Decide what will be measured on a text.

    A prompt without a token is none: where nothing stands in front of it, the split is not applicable.
    """
    n_bytes = len(text.text.encode())
    n_tokens = len(tokens.token_ids)
    n_scored = prefix_token.scored_tokens(n_tokens)
    if n_tokens == 0:
        return TextPlan(tokens, n_bytes, n_scored, error="no_tokens")
    if not within_vocabulary(tokens.token_ids, language_model.vocabulary_size):
        return TextPlan(tokens, n_bytes, n_scored, error="token_outside_vocabulary")
    if n_scored == 0:
        return TextPlan(tokens, n_bytes, n_scored, error="only_first_token")
    n_in_front = len(prefix_token.in_front)
    # The first window's inputs and the token that the last of them predicts.
    room = language_model.context_length + 1 - n_in_front
    extraction = NOT_APPLICABLE
    if options.metrics & {"extraction", "p_z"}:
        if text.prefix is None:
            extraction = split_by_length(n_tokens, room, options.prefix_tokens, options.suffix_tokens)
        else:
            extraction = split_at(tokens.tokens_within(len(text.prefix)), n_tokens, room)
        if extraction.prefix_tokens + n_in_front == 0:
            extraction = NOT_APPLICABLE
    verbatim = {}
    if "verbatim" in options.metrics:
        verbatim = {length: split_for_verbatim(length, n_tokens, room) for length in VERBATIM_PREFIX_TOKENS}
    return TextPlan(
        tokens,
        n_bytes,
        n_scored,
        n_windows=len(list(cut_windows(0, n_tokens, language_model.context_length, n_in_front))),
        extraction=extraction,
        verbatim=verbatim,
    )
