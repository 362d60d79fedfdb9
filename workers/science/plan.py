"""What scoring will do with each text: where it is split, which tokens it may recite."""

import math
from dataclasses import dataclass, field

from workers.science.extraction import (
    NOT_APPLICABLE,
    VERBATIM_PREFIX_TOKENS,
    Split,
    split_at,
    split_by_length,
    split_for_verbatim,
)
from workers.science.forward import TextTokens
from workers.science.loading import LanguageModel
from workers.science.texts import ScoringOptions, TextInput
from workers.science.tokenization import TokenizedText, within_vocabulary


@dataclass(frozen=True, slots=True)
class TextPlan:
    """A text made ready for the forward pass.

    Attributes:
        tokens: of the text.
        n_bytes: of the text in UTF-8.
        n_windows: that it will be cut into; 0 if it cannot be scored.
        error: why it cannot be scored, as in `TextScore.error`.
        extraction: the split of `extraction` and `p_z`, not applicable if neither was asked for.
        verbatim: the splits of `verbatim` by prefix length, empty if not asked for.
    """

    tokens: TokenizedText
    n_bytes: int
    n_windows: int = 0
    error: str | None = None
    extraction: Split = NOT_APPLICABLE
    verbatim: dict[int, Split] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        """Tokens of the text."""
        return len(self.tokens.token_ids)

    def for_forward_pass(self) -> TextTokens:
        """The tokens to score; none if the text cannot be scored."""
        if self.error is not None:
            return TextTokens(self.tokens.token_ids[:0], [])
        return TextTokens(self.tokens.token_ids, [self.extraction, *self.verbatim.values()])


def plan_text(
    text: TextInput, tokens: TokenizedText, language_model: LanguageModel, options: ScoringOptions
) -> TextPlan:
    """Decide what will be measured on a text."""
    n_bytes = len(text.text.encode())
    n_tokens = len(tokens.token_ids)
    context_length = language_model.context_length
    if n_tokens == 0:
        return TextPlan(tokens, n_bytes, error="no_tokens")
    if not within_vocabulary(tokens.token_ids, language_model.vocabulary_size):
        return TextPlan(tokens, n_bytes, error="token_outside_vocabulary")
    extraction = NOT_APPLICABLE
    if options.metrics & {"extraction", "p_z"}:
        if text.prefix is None:
            extraction = split_by_length(
                n_tokens, context_length, options.prefix_tokens, options.suffix_tokens
            )
        else:
            extraction = split_at(tokens.tokens_within(len(text.prefix)), n_tokens, context_length)
    verbatim = {}
    if "verbatim" in options.metrics:
        verbatim = {
            length: split_for_verbatim(length, n_tokens, context_length) for length in VERBATIM_PREFIX_TOKENS
        }
    return TextPlan(
        tokens,
        n_bytes,
        n_windows=math.ceil(n_tokens / context_length),
        extraction=extraction,
        verbatim=verbatim,
    )
