"""The prefix token: what stands before a text, and how much of the text it conditions.

A model gives a text's first token a probability only if something stands before it. Where the checkpoint's
own tokenizer puts a token in front of every text, that is it, and the whole text is conditioned on it. Where
the tokenizer adds nothing, neither do people who prompt the model; a token in front would then change
everything that follows, so it conditions the first token alone.
"""

from dataclasses import dataclass
from typing import Literal

from workers.science.errors import PrefixTokenUnusable
from workers.science.models.loading import LanguageModel
from workers.science.scoring.texts import PrefixTokenChoice


@dataclass(frozen=True, slots=True)
class PrefixToken:
    """What a choice of prefix token means for one language model.

    Attributes:
        ids: the tokens, nearly always one; none if `conditions` is `nothing`.
        conditions: `all`: the ids stand in front of every text, for its likelihoods and for decoding alike.
            `first_token`: they give the first token its probability and are seen by nothing after it.
            `nothing`: no text has anything before it, and its first token is not scored.
    """

    ids: tuple[int, ...]
    conditions: Literal["all", "first_token", "nothing"]

    @property
    def in_front(self) -> tuple[int, ...]:
        """The tokens that the model sees before a text."""
        return self.ids if self.conditions == "all" else ()

    def scored_tokens(self, n_tokens: int) -> int:
        """How many of a text's tokens are scored."""
        return max(0, n_tokens - 1) if self.conditions == "nothing" else n_tokens


def resolve_prefix_token(choice: PrefixTokenChoice, language_model: LanguageModel) -> PrefixToken:
    """What stands before a text under a language model.

    Args:
        choice: `auto`: what the tokenizer itself puts in front of a text, before all of it; if that is
            nothing, BOS, else EOS, before the first token alone. `bos`, `eos` or an id: that token, before
            all of the text. `bos_else_eos`: BOS, else EOS, before all of the text, as lm-evaluation-harness
            0.4.13 does. `none`: nothing.
        language_model: the model.

    Raises:
        PrefixTokenUnusable: `no_bos_token`, `no_eos_token`, or `prefix_token_outside_vocabulary`.
    """
    if choice == "none":
        return PrefixToken((), "nothing")
    if choice == "auto":
        own = language_model.own_prefix_token_ids
        prefix_token = PrefixToken(own or (language_model.prefix_token_id,), "all" if own else "first_token")
    else:
        prefix_token = PrefixToken((_token_id(choice, language_model),), "all")
    if max(prefix_token.ids) >= language_model.vocabulary_size:
        raise PrefixTokenUnusable(
            "prefix_token_outside_vocabulary",
            f"The prefix token {max(prefix_token.ids)} is outside the vocabulary of "
            f"{language_model.vocabulary_size} tokens.",
        )
    return prefix_token


def _token_id(choice: PrefixTokenChoice, language_model: LanguageModel) -> int:
    if isinstance(choice, int):
        return choice
    if choice == "bos_else_eos":
        return language_model.prefix_token_id
    token_id = getattr(language_model.tokenizer, f"{choice}_token_id")
    if token_id is None:
        raise PrefixTokenUnusable(
            f"no_{choice}_token", f"The tokenizer has no {choice.upper()} token; choose another prefix token."
        )
    return int(token_id)
