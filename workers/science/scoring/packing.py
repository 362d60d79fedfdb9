"""Windows of unlike length laid end to end in one row, so that nothing is computed for padding.

Shapes: W windows, T tokens of all of them, H hidden size; Q heads of queries, K heads of keys and values, D
numbers of a head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface

from workers.science.scoring.transfer import to_device

# The name under which transformers finds the attention of this module.
_IMPLEMENTATION: Final = "memaudit_packed"
_STANDARD: Final = "sdpa"
# How far hidden states may be from those of the padded path, as a share of their norm. Rounding of a few
# tokens stays well below; a token that sees another window, or has another position, is about 1 away.
_ROUNDING: Final = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}


class NotPackable(Exception):
    """The attention of this model has a part that is not made here."""


@dataclass(frozen=True, slots=True)
class _Row:
    """Where its windows begin and end: `ends` on the host, from 0, and int32 [W + 1] on the device."""

    ends: tuple[int, ...]
    on_device: Tensor
    longest: int


_row: ContextVar[_Row] = ContextVar("row")


def packed_hidden_states(model: Any, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
    """Last hidden states [T, H] of windows laid end to end, each of which sees itself alone.

    Args:
        model: a causal language model of transformers that `packs`.
        token_ids: int64 [T], on the model's device.
        lengths: tokens of each window.

    Raises:
        NotPackable: its attention has a part that is not made here.
    """
    ends = tuple(accumulate(lengths, initial=0))
    positions = np.concatenate([np.arange(length) for length in lengths])
    row = _Row(ends, to_device(np.asarray(ends, np.int32), token_ids.device), max(lengths))
    with _attending_to(model, row):
        hidden: Tensor = model.base_model(
            input_ids=token_ids[None],
            position_ids=to_device(positions, token_ids.device)[None],
            use_cache=False,
        ).last_hidden_state
    return hidden[0]


@torch.inference_mode()
def packs(model: Any, token_ids: Tensor, padded: Tensor) -> bool:
    """Whether a model gives windows in one row the numbers that it gives them by themselves.

    It has to be one whose attention does without masks by what transformers says of it; that is then tried.

    Args:
        model: a causal language model of transformers.
        token_ids: int64 [T], some tokens, at least two.
        padded: their last hidden states [T, H] by the padded path.
    """
    config = model.config.get_text_config()
    without_masks = (
        model._supports_flash_attn  # noqa: SLF001 - what transformers itself goes by
        and not model._is_stateful  # noqa: SLF001 - likewise: what goes from token to token beside attention
        and "chunked_attention" not in (getattr(config, "layer_types", None) or ())
        and config._attn_implementation == _STANDARD  # noqa: SLF001 - likewise
    )
    if not without_masks:
        return False
    count = len(token_ids)
    try:
        found = packed_hidden_states(
            model, torch.cat([token_ids, token_ids[: count // 2]]), [count, count // 2]
        )
    except (NotPackable, RuntimeError, TypeError, ValueError):  # each model fails in its own way
        return False
    expected = torch.cat([padded, padded[: count // 2]]).float()
    distances = (found.float() - expected).norm(dim=-1) / expected.norm(dim=-1)
    return bool((distances < _ROUNDING[found.dtype]).all())


@contextmanager
def _attending_to(model: Any, row: _Row) -> Iterator[None]:
    """Let a model's attention go by a row's windows; one thread at a time, undone afterwards."""
    config = model.config
    before = config._attn_implementation  # noqa: SLF001 - the only place where it is kept
    token = _row.set(row)
    config._attn_implementation = _IMPLEMENTATION  # noqa: SLF001 - as above
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001 - as above
        _row.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each window of the row, as transformers calls it.

    Args:
        module: the layer's attention.
        query: [1, Q, T, D].
        key: [1, K, T, D].
        value: as `key`.
        attention_mask: none: which tokens see which follows from the row.
        scaling: of the products; 1 / sqrt(D) unless given.
        sliding_window: how many tokens a token sees, itself included.
        others: whatever a layer hands to any attention.

    Returns:
        [1, T, Q, D].
    """
    beyond = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    causal = others.get("is_causal")
    if beyond or attention_mask is not None or not (module.is_causal if causal is None else causal):
        raise NotPackable(", ".join(beyond) or "not causal")
    attend = _attend_at_once if query.is_cuda else _attend_apart
    # Tokens before heads.
    query, key, value = (each[0].transpose(0, 1) for each in (query, key, value))
    return attend(query, key, value, scaling, sliding_window)[None], None


def _attend_at_once(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, sliding_window: int | None
) -> Tensor:
    """Attention of all windows in one kernel, flash attention: for half precision on a GPU. [T, Q, D]."""
    row = _row.get()
    ends = row.on_device.to(query.device)  # a layer may be on another GPU
    found = varlen_attn(
        query,
        key,
        value,
        ends,
        ends,
        row.longest,
        row.longest,
        scale=scaling,
        window_size=(-1, 0) if sliding_window is None else (sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found, Tensor)  # a tuple only if more is asked for
    return found


def _attend_apart(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, sliding_window: int | None
) -> Tensor:
    """The same, a window at a time, on any device and in any precision. [T, Q, D]."""
    found = torch.empty_like(query, memory_format=torch.contiguous_format)
    for start, end in pairwise(_row.get().ends):
        places = torch.arange(end - start, device=query.device)
        back = places[:, None] - places
        sees = (back >= 0) & (back < (sliding_window or len(places)))
        found[start:end] = functional.scaled_dot_product_attention(
            query[start:end].transpose(0, 1),
            key[start:end].transpose(0, 1),
            value[start:end].transpose(0, 1),
            attn_mask=sees,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        ).transpose(0, 1)
    return found


def _no_mask(*_: Any, **__: Any) -> None:
    """What transformers asks for in place of a mask."""


AttentionInterface.register(_IMPLEMENTATION, _attend)
AttentionMaskInterface.register(_IMPLEMENTATION, _no_mask)
