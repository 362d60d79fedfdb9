"""Greedy continuations of token prompts, many at a time."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.scoring.batching import map_on_cores

# Rows that are decoded together: enough that reading the weights for each new token pays.
_CPU_ROWS = 64
_GPU_ROWS = 256


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where greedy decoding starts: `token_ids` int64 [n], all that is seen, and how many may follow."""

    token_ids: TokenIds
    n_new_tokens: int


def rows_decoded_at_once(device: torch.device) -> int:
    """How many outputs to decode together on a device."""
    return _CPU_ROWS if device.type == "cpu" else _GPU_ROWS


def end_token_ids(language_model: LanguageModel) -> frozenset[int]:
    """The tokens after which the model's own generation stops."""
    token_ids = language_model.model.generation_config.eos_token_id
    if token_ids is None:
        return frozenset()
    return frozenset([token_ids] if isinstance(token_ids, int) else token_ids)


def continue_greedily(
    language_model: LanguageModel, prompts: Sequence[Prompt], on_batch: Callable[[int], None]
) -> list[TokenIds]:
    """Continue each prompt with its most likely tokens, as `generate(do_sample=False)` would.

    A continuation ends after `n_new_tokens` or with the first end token, which is part of it. Settings that
    the checkpoint brings for generation, such as a repetition penalty, are left out: this is plain argmax.

    Args:
        language_model: the model.
        prompts: the prompts; each must fit the context together with its continuation.
        on_batch: told the number of prompts in each batch that is done; may raise to stop.

    Returns:
        int64 [at most n_new_tokens] for each prompt, in order.
    """
    rows = rows_decoded_at_once(language_model.device)
    if language_model.device.type == "cpu":
        rows = min(rows, math.ceil(len(prompts) / torch.get_num_threads()))
    batches = list(_batches(prompts, language_model.context_length, rows))
    continuations: dict[int, TokenIds] = {}
    end_tokens = end_token_ids(language_model)
    with _plain_argmax(language_model, end_tokens):
        results = map_on_cores(
            lambda batch: _continue_batch(language_model, [prompts[index] for index in batch], end_tokens),
            batches,
            language_model.device,
        )
        for batch, generated in zip(batches, results, strict=True):
            continuations.update(zip(batch, generated, strict=True))
            on_batch(len(batch))
    return [continuations[index] for index in range(len(prompts))]


@contextmanager
def _plain_argmax(language_model: LanguageModel, end_tokens: frozenset[int]) -> Iterator[None]:
    """Put the checkpoint's own settings for generation aside for a while."""
    model: Any = language_model.model
    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=sorted(end_tokens) or None,
        pad_token_id=language_model.padding_token_id,
    )
    try:
        yield
    finally:
        model.generation_config = own


def _batches(prompts: Sequence[Prompt], context_length: int, rows: int) -> Iterator[list[int]]:
    """Prompts with like numbers of tokens to decode: no row may outgrow the context while others go on."""
    batch: list[int] = []
    order = sorted(
        range(len(prompts)), key=lambda index: (-prompts[index].n_new_tokens, len(prompts[index].token_ids))
    )
    for index in order:
        steps = prompts[batch[0] if batch else index].n_new_tokens
        # The last new token is never fed back.
        outgrows = len(prompts[index].token_ids) + steps - 1 > context_length
        if batch and (outgrows or len(batch) == rows):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def _continue_batch(
    language_model: LanguageModel, prompts: list[Prompt], end_tokens: frozenset[int]
) -> list[TokenIds]:
    longest = max(len(prompt.token_ids) for prompt in prompts)
    input_ids = np.full((len(prompts), longest), language_model.padding_token_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, longest - len(prompt.token_ids) :] = prompt.token_ids
        attention_mask[row, longest - len(prompt.token_ids) :] = 1
    generated = language_model.model.generate(
        torch.from_numpy(input_ids).to(language_model.device),
        attention_mask=torch.from_numpy(attention_mask).to(language_model.device),
        generation_config=GenerationConfig(max_new_tokens=prompts[0].n_new_tokens),
    )
    new_tokens = generated[:, longest:].cpu().numpy()
    return [
        _cut_at_end(row[: prompt.n_new_tokens], end_tokens)
        for row, prompt in zip(new_tokens, prompts, strict=True)
    ]


def _cut_at_end(token_ids: TokenIds, end_tokens: frozenset[int]) -> TokenIds:
    ends = np.flatnonzero(np.isin(token_ids, list(end_tokens)))
    return token_ids[: ends[0] + 1] if len(ends) else token_ids
