"""Do memories come back? Changed prompts, coarser weights, and a little further training.

Every change to the weights is undone before the function returns.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import Rows
from workers.science.models.tokenization import tokenize
from workers.science.scoring.plan import plan_text
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput, shares_extracted

CHANGED_PROMPTS: Final = ("prefix_shifted", "prefix_shortened")
_INT8_LEVELS = 127
_MATRIX = 2  # dimensions


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A short benign fine-tune: AdamW on clean text."""

    steps: int = 20
    batch_blocks: int = 8
    learning_rate: float = 1e-4
    seed: int = 0


def with_changed_prompts(
    language_model: LanguageModel, texts: Sequence[TextInput], options: ScoringOptions
) -> dict[str, list[TextInput]]:
    """The texts with prefixes that are shifted (their first quarter is dropped) or shortened to their half.

    The suffix stays, so that it is asked for at other positions than those at which it was learned
    (arXiv 2510.24256, positional perturbation). The split is the one that scoring uses, so that short texts
    are asked for the same suffix as before. Texts without room for a prefix stay as they are.
    """
    asked = replace(options, metrics=frozenset({"extraction"}), decode=True)
    prefix_token = resolve_prefix_token(options.prefix_token, language_model)
    tokenized = tokenize(language_model.tokenizer, [text.text for text in texts], options.special_tokens)
    shifted, shortened = [], []
    for text, tokens in zip(texts, tokenized, strict=True):
        split = plan_text(text, tokens, language_model, asked, prefix_token).continued
        if split.prefix_tokens < 2:  # noqa: PLR2004 - nothing to drop
            shifted.append(text)
            shortened.append(text)
            continue
        boundary = int(tokens.offsets[split.prefix_tokens, 0])
        stop = int(tokens.offsets[split.prefix_tokens + split.suffix_tokens - 1, 1])
        for changed, dropped in ((shifted, split.prefix_tokens // 4), (shortened, split.prefix_tokens // 2)):
            start = int(tokens.offsets[max(1, dropped), 0])
            prefix, suffix = text.text[start:boundary], text.text[boundary:stop]
            changed.append(TextInput(prefix + suffix, prefix=prefix, suffix=suffix))
    return dict(zip(CHANGED_PROMPTS, (shifted, shortened), strict=True))


@contextmanager
def rounded_weights(language_model: LanguageModel, rounding: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put every matrix of the model's layers through a rounding, for a while."""
    with _restored(language_model.model) as matrices:
        for matrix in matrices:
            matrix.copy_(rounding(matrix))
        yield


def to_int8(weight: Tensor) -> Tensor:
    """Round to 8 bits: symmetric, one scale a row (absolute maximum / 127)."""
    scale = weight.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / _INT8_LEVELS
    return (weight / scale).round().clamp(-_INT8_LEVELS, _INT8_LEVELS) * scale


def to_bfloat16(weight: Tensor) -> Tensor:
    """Round to bfloat16."""
    return weight.to(torch.bfloat16).to(weight.dtype)


@contextmanager
def fine_tuned(
    language_model: LanguageModel, blocks: Rows, tuning: FineTuning, on_step: Callable[[int], None]
) -> Iterator[None]:
    """Train the model's matrices on clean text for a few steps, for a while.

    Args:
        language_model: the model.
        blocks: the clean text, drawn from with replacement by the seed.
        tuning: how.
        on_step: told the steps done; may raise to stop.
    """
    model = language_model.model
    with _restored(model) as matrices, torch.enable_grad():
        required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            for parameter, _ in required:
                parameter.requires_grad = False
            for matrix in matrices:
                matrix.requires_grad = True
            _train(language_model, matrices, blocks, tuning, on_step)
        finally:
            for parameter, before in required:
                parameter.requires_grad = before
                parameter.grad = None
        with torch.no_grad():
            yield


def _train(
    language_model: LanguageModel,
    matrices: Sequence[Tensor],
    blocks: Rows,
    tuning: FineTuning,
    on_step: Callable[[int], None],
) -> None:
    generator = torch.Generator().manual_seed(tuning.seed)
    optimizer = torch.optim.AdamW(matrices, lr=tuning.learning_rate)
    for step in range(tuning.steps):
        part = blocks.part(torch.randint(len(blocks), (tuning.batch_blocks,), generator=generator))
        ids, mask = (tensor.to(language_model.device) for tensor in (part.ids, part.mask))
        ignored = -100  # the label that the library's cross-entropy skips
        loss = language_model.model(
            input_ids=ids, labels=ids.masked_fill(~mask, ignored), use_cache=False
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step + 1)


@contextmanager
def _restored(model: Any) -> Iterator[Sequence[Tensor]]:
    """The matrices of the model's layers; their bits are put back at the end."""
    layers = [module for module in model.base_model.modules() if isinstance(module, torch.nn.ModuleList)]
    unique = {
        parameter.data_ptr(): parameter
        for layer in layers
        for parameter in layer.parameters()
        if parameter.dim() == _MATRIX
    }
    matrices = list(unique.values())
    kept = [matrix.detach().clone() for matrix in matrices]
    try:
        with torch.no_grad():
            yield matrices
    finally:
        with torch.no_grad():
            for matrix, before in zip(matrices, kept, strict=True):
                matrix.copy_(before)


@torch.no_grad()
def recited(
    language_model: LanguageModel, parts: Iterable[Sequence[TextInput]], options: ScoringOptions
) -> float | None:
    """The share of texts, given a part at a time, that are recited strictly; None if none is long enough."""
    quick = replace(options, metrics=frozenset({"extraction"}), decode=False, token_evidence=False)
    scores = (score for texts in parts for score in score_texts(language_model, texts, quick))
    return shares_extracted(scores)["strict"]
