"""How near parts of the scorer come to the machine's float32 matrix rate: the body, the head, the rest.

Work is what the scored tokens need: the products with weight matrices, and of attention the products with
keys and with values below the diagonal. Padding, norms, rotations and the softmax are no work.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import count_tokens
from workers.science.scoring.batching import (
    Window,
    batches_for,
    cut_windows,
    map_on_cores,
)
from workers.science.scoring.likelihood import base_hidden_states, score_positions

_SIZE = 1024


@dataclass(frozen=True)
class Work:
    """Floating-point operations to score some texts once."""

    body: int
    head: int

    @property
    def whole(self) -> int:
        return self.body + self.head


def matrix_rate(seconds: float = 0.5) -> float:
    """FLOP/s of square float32 products on every core at once, a thread on each, as the scorer uses them."""

    def products(_lane: int) -> float:
        left, right, out = (torch.randn(_SIZE, _SIZE) for _ in range(3))
        done, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            torch.mm(left, right, out=out)
            done += 1
        return 2 * _SIZE**3 * done / (time.perf_counter() - start)

    return sum(map_on_cores(products, range(torch.get_num_threads()), torch.device("cpu")))


def windows_of(language_model: LanguageModel, texts: Sequence[str]) -> list[Window]:
    """The windows that the scorer cuts texts into behind one prefix token."""
    lengths = count_tokens(language_model.tokenizer, texts)
    return [
        window
        for index, length in enumerate(lengths)
        for window in cut_windows(index, length, language_model.context_length, 1)
    ]


def work_of(language_model: LanguageModel, windows: Sequence[Window]) -> Work:
    """What the windows need; see the module."""
    model, config = language_model.model, language_model.model.config
    head = model.get_output_embeddings().weight
    matrices = sum(weight.numel() for weight in model.base_model.parameters() if weight.dim() == 2)
    matrices -= model.get_input_embeddings().weight.numel()
    inputs = sum(map(len, windows))
    attention = 2 * config.num_hidden_layers * config.hidden_size * sum(len(w) ** 2 for w in windows)
    return Work(
        body=2 * matrices * inputs + attention, head=2 * head.numel() * sum(w.n_scored for w in windows)
    )


def part_runners(language_model: LanguageModel, windows: Sequence[Window]) -> dict[str, Callable[[], None]]:
    """Body and head alone, in the scorer's own batches, spread over the cores as the scorer does."""
    model, device = language_model.model, language_model.device
    batches = batches_for(device, windows)
    hidden_size = model.get_output_embeddings().weight.shape[1]
    hidden = torch.randn(max(sum(map(len, batch)) for batch in batches), hidden_size)

    @torch.inference_mode()
    def body(batch: list[Window]) -> None:
        base_hidden_states(model, torch.zeros(len(batch), max(map(len, batch)), dtype=torch.int64))

    @torch.inference_mode()
    def head(batch: list[Window]) -> None:
        scored = sum(window.n_scored for window in batch)
        score_positions(model, hidden[:scored], torch.arange(scored) % language_model.vocabulary_size)

    def run(part: Callable[[list[Window]], Any]) -> None:
        list(map_on_cores(part, batches, device))

    return {"body": lambda: run(body), "head": lambda: run(head)}
