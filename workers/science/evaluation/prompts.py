"""Prompts that ask for the same suffix in another way than it was learned."""

from collections.abc import Callable, Sequence
from typing import Final

from workers.science.evaluation.suffixes import plan_suffixes
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import tokenize
from workers.science.scoring.plan import TextPlan
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.texts import ScoringOptions, TextInput

# What is left out of a prefix of so many tokens.
_CUT: Final[dict[str, Callable[[int], int]]] = {
    "prefix_shifted": lambda tokens: tokens // 4,
    "prefix_shortened": lambda tokens: tokens // 2,
}
# How a prefix is written instead.
_REWRITTEN: Final[dict[str, Callable[[str], str]]] = {
    "prefix_upper_case": str.upper,
    "prefix_lower_case": str.lower,
    "prefix_wide_spaces": lambda prefix: prefix.replace(" ", "  "),
}
CHANGED_PROMPTS: Final = (*_CUT, *_REWRITTEN)


def with_changed_prompts(
    language_model: LanguageModel, texts: Sequence[TextInput], options: ScoringOptions
) -> dict[str, list[TextInput]]:
    """The texts with other prefixes, by what was changed; the suffix stays.

    `prefix_shifted` lacks its first quarter and `prefix_shortened` its first half, so that the suffix is
    asked for at other positions than those at which it was learned (arXiv 2510.24256, positional
    perturbation). `prefix_upper_case` and `prefix_lower_case` are written so, and in `prefix_wide_spaces`
    each space stands twice: the same words in other tokens. Of a prefix that has no room any more the end
    stays. The split is the one that scoring uses, so that short texts are asked for the same suffix as
    before. Texts without room for a prefix stay as they are.
    """
    plans = plan_suffixes(language_model, texts, options)
    found: dict[str, list[TextInput]] = {name: list(texts) for name in CHANGED_PROMPTS}
    changeable = [place for place, plan in enumerate(plans) if plan.continued.prefix_tokens > 1]
    for name, dropped in _CUT.items():
        for place in changeable:
            plan = plans[place]
            start = int(plan.tokens.offsets[max(1, dropped(plan.continued.prefix_tokens)), 0])
            boundary, _ = _ends(plan)
            found[name][place] = _asked(plan, plan.text[start:boundary])
    for name, rewrite in _REWRITTEN.items():
        prefixes = [rewrite(plans[place].text[: _ends(plans[place])[0]]) for place in changeable]
        fitting = _that_fit(language_model, prefixes, [plans[place] for place in changeable], options)
        for place, prefix in zip(changeable, fitting, strict=True):
            found[name][place] = _asked(plans[place], prefix)
    return found


def _ends(plan: TextPlan) -> tuple[int, int]:
    """The characters at which a text's prefix and its suffix end."""
    split, offsets = plan.continued, plan.tokens.offsets
    return int(offsets[split.prefix_tokens, 0]), int(offsets[split.suffix.stop - 1, 1])


def _asked(plan: TextPlan, prefix: str) -> TextInput:
    boundary, stop = _ends(plan)
    suffix = plan.text[boundary:stop]
    return TextInput(prefix + suffix, prefix=prefix, suffix=suffix)


def _that_fit(
    language_model: LanguageModel, prefixes: Sequence[str], plans: Sequence[TextPlan], options: ScoringOptions
) -> list[str]:
    """As much of the end of each prefix as the context has room for before the suffix, a token at least."""
    in_front = len(resolve_prefix_token(options.prefix_token, language_model).in_front)
    tokenized = tokenize(language_model.tokenizer, prefixes, options.special_tokens)
    kept = []
    for prefix, tokens, plan in zip(prefixes, tokenized, plans, strict=True):
        # The end and the suffix may come to a token more when they are tokenized together.
        room = max(1, language_model.context_length - in_front - plan.continued.suffix_tokens)
        start = int(tokens.offsets[-room, 0]) if len(tokens.token_ids) > room else 0
        kept.append(prefix[start:])
    return kept
