"""The suffixes that scoring asks texts for, as rows of tokens: what other readings of a model start from.

Shapes: N predicting places, H hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import tokenize
from workers.science.scoring.batching import Window, batches_for
from workers.science.scoring.plan import TextPlan, plan_text
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.texts import ScoringOptions, TextInput

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Suffix:
    """What a text is asked for.

    Attributes:
        text: the place of the text among those that were given.
        prompt: int64 [P], what stands in front and the prefix.
        token_ids: int64 [L], the true tokens after it, at least one.
    """

    text: int
    prompt: TokenIds
    token_ids: TokenIds


def plan_suffixes(
    language_model: LanguageModel, texts: Sequence[TextInput], options: ScoringOptions
) -> list[TextPlan]:
    """The plans of texts whose suffix `extraction` asks for, with the very split that scoring uses."""
    asked = replace(options, metrics=frozenset({"extraction"}), decode=True)
    prefix_token = resolve_prefix_token(options.prefix_token, language_model)
    tokenized = tokenize(language_model.tokenizer, [text.text for text in texts], options.special_tokens)
    return [
        plan_text(text, tokens, language_model, asked, prefix_token)
        for text, tokens in zip(texts, tokenized, strict=True)
    ]


def suffixes_of(
    language_model: LanguageModel, texts: Sequence[TextInput], options: ScoringOptions
) -> list[Suffix]:
    """The suffixes of those texts that are long enough for one."""
    front = np.asarray(resolve_prefix_token(options.prefix_token, language_model).in_front, np.int64)
    found = []
    for place, plan in enumerate(plan_suffixes(language_model, texts, options)):
        split, token_ids = plan.continued, plan.tokens.token_ids
        if split.applicable:
            prompt = np.concatenate((front, token_ids[: split.prefix_tokens]))
            found.append(Suffix(place, prompt, token_ids[split.suffix]))
    return found


@torch.inference_mode()
def map_suffixes(
    language_model: LanguageModel,
    suffixes: Sequence[Suffix],
    function: Callable[[Tensor, Tensor, Tensor], _Result],
) -> Iterator[tuple[list[Suffix], _Result]]:
    """Go through suffixes a batch at a time, those of like length together.

    Args:
        language_model: whose device and padding.
        suffixes: of texts.
        function: takes a batch's inputs int64 [B, S], padded on the right, where a suffix' token is
            predicted, bool [B, S], and the true tokens there, int64 [N].

    Returns:
        The suffixes of each batch, and what the function made of it.
    """
    device = language_model.device
    windows = [
        Window(place, 0, len(each.prompt) + len(each.token_ids) - 1, len(each.token_ids))
        for place, each in enumerate(suffixes)
    ]
    for batch in batches_for(device, windows):
        some = [suffixes[window.text] for window in batch]
        longest = max(len(window) for window in batch)
        inputs = torch.full((len(batch), longest), language_model.padding_token_id)
        predicts = torch.zeros_like(inputs, dtype=torch.bool)
        for row, each in enumerate(some):
            tokens = np.concatenate((each.prompt, each.token_ids[:-1]))
            inputs[row, : len(tokens)] = torch.from_numpy(tokens)
            predicts[row, len(each.prompt) - 1 : len(tokens)] = True
        targets = torch.from_numpy(np.concatenate([each.token_ids for each in some]))
        yield some, function(inputs.to(device), predicts.to(device), targets.to(device))
