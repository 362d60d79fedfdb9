"""Train one model of a suite on prepared sequences: a process of its own that reports each step.

Both models of a pair start from the same weights and take the same steps; only their sequences differ.
Cross-entropy over every next token, AdamW (0.9, 0.95, weight decay 0.1 on matrices), warm-up over 5 % of
the steps, cosine decay to a tenth, gradients clipped at 1: the recipe of arXiv 2510.19811, appendix.
"""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from workers.suite.errors import TrainingDiverged
from workers.suite.sizes import Size

WARM_UP = 0.05
FINAL_LEARNING_RATE = 0.1
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
LARGEST_GRADIENT = 1.0
# safetensors makes its files private; a worker may run as another user.
_READABLE = 0o644

# Called after each step with the number of steps done and their latest loss in nats a token.
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Run:
    """One model to train. Paths are absolute; `output` appears only when the model is whole."""

    name: str
    size: Size
    seed: int
    sequences: Path  # .npy, int32 [sequences, context + 1]
    tokenizer: Path
    output: Path
    device: str
    threads: int
    keep_steps: int | None

    @property
    def partial(self) -> Path:
        """Where the model lies until it is whole."""
        return self.output.with_name(f".{self.output.name}.partial")


def build_model(size: Size, vocabulary: int, end_of_text: int) -> Any:
    """A randomly initialised Llama with untied embeddings."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=size.hidden_size,
            intermediate_size=size.mlp_size,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.key_value_heads,
            max_position_embeddings=size.context,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=end_of_text,
            attn_implementation="sdpa",
        )
    )


def learning_rate_factor(step: int, steps: int) -> float:
    """The learning rate of a step (from 0) over the peak: linear warm-up, then a cosine."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * (1 + math.cos(math.pi * progress)) / 2


def train(run: Run, report: Report) -> None:
    """Train one model and put it at `run.output` in one rename.

    Raises:
        TrainingDiverged: if the loss is not finite.
    """
    tokenizer = AutoTokenizer.from_pretrained(run.tokenizer)
    sequences = np.load(run.sequences, mmap_mode="r")
    torch.manual_seed(run.seed)
    model = build_model(run.size, len(tokenizer), tokenizer.eos_token_id).to(run.device)
    optimizer = build_optimizer(model, run.size.learning_rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, run.size.steps)
    )
    shutil.rmtree(run.partial, ignore_errors=True)
    for step in range(run.size.steps):
        first = step * run.size.batch
        batch = torch.from_numpy(sequences[first : first + run.size.batch].astype(np.int64)).to(run.device)
        loss = accumulate_gradients(model, batch, run.size.forward_batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss of {run.name} is not finite at step {step + 1}. Try another --seed."
            )
        if run.keep_steps and (step + 1) % run.keep_steps == 0:
            _save(model, tokenizer, run.partial / "steps" / str(step + 1))
        report(step + 1, loss)
    _save(model, tokenizer, run.partial)
    run.partial.rename(run.output)


def accumulate_gradients(model: Any, batch: torch.Tensor, forward_batch: int) -> float:
    """Add the gradient of the batch's mean loss, a few sequences at a time.

    Args:
        model: the model in training.
        batch: int64 [batch, context + 1].
        forward_batch: sequences a pass.

    Returns:
        The mean cross-entropy in nats a token.
    """
    total = torch.zeros((), device=batch.device)
    for part in torch.split(batch, forward_batch):
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=batch.device.type == "cuda"):
            logits = model(input_ids=part[:, :-1], use_cache=False).logits
        loss = cross_entropy(logits.float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
        loss = loss / (batch.shape[0] * (batch.shape[1] - 1))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return float(total)


def build_optimizer(model: Any, learning_rate: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves the norms' gains alone."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=BETAS,
        fused=True,
    )


def configure_process(run: Run) -> None:
    """Make the same run give the same bits on the same machine with the same number of threads.

    The settings are the whole process's: call this in a process that only trains.
    """
    logging.disable_progress_bar()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(run.threads)


def _save(model: Any, tokenizer: Any, directory: Path) -> None:
    model.save_pretrained(directory)
    for weights in directory.glob("*.safetensors"):
        weights.chmod(_READABLE)
    tokenizer.save_pretrained(directory)
