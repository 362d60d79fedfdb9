"""Checkpoints in Hugging Face layout, loaded for scoring."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from workers.science.errors import CheckpointRejected
from workers.science.models import checkpoint_files
from workers.science.models.configuration import read_configuration
from workers.science.models.placing import Placing, place
from workers.science.models.tokenization import tokens_put_in_front
from workers.science.models.tokenizer_files import load_tokenizer, prefix_token_id_of
from workers.science.scoring.likelihood import base_hidden_states
from workers.science.scoring.packing import packs
from workers.science.scoring.vocabulary.head import project_to_vocabulary

_PROBE_TOKENS = 16


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in memory with its tokenizer.

    `prefix_token_id` is BOS, else EOS. `own_prefix_token_ids` is what the tokenizer puts before a text by
    itself, often nothing. `packs` says that texts are scored end to end in one row, not padded.
    """

    model: Any
    tokenizer: Any
    prefix_token_id: int
    context_length: int
    vocabulary_size: int
    device: torch.device
    dtype: torch.dtype
    own_prefix_token_ids: tuple[int, ...] = ()
    packs: bool = False

    @property
    def padding_token_id(self) -> int:
        """What fills up rows of unlike length; masked and never scored, but looked up, so it has a row.

        The prefix token, unless the tokenizer was given that without the model growing for it.
        """
        return self.prefix_token_id if self.prefix_token_id < self.vocabulary_size else 0


def load_language_model(
    directory: Path, *, device: str | None = None, dtype: str = "float32", tokenizer: Any = None
) -> LanguageModel:
    """Load a checkpoint for scoring, in evaluation mode.

    Args:
        directory: checkpoint in Hugging Face layout.
        device: such as `cpu` or `cuda:0`; by default the GPU with most room, or all of them together for a
            model that is larger, or the processor.
        dtype: of the weights in memory: `float32`, `bfloat16` or `float16`.
        tokenizer: stands for the checkpoint's own, which is loaded into this process unless it is given.

    Raises:
        CheckpointRejected: as `describe_checkpoint`; also when tensors are missing from the files
            (`weights_incomplete`) or do not fit the configuration (`weights_unusable`), when the weights
            give logits that are not finite (`weights_not_finite`), or when the model is not a causal one
            whose logits are a projection (`unsupported_architecture`).
        ValueError: if `dtype` is none of the three.
    """
    if dtype not in {"float32", "bfloat16", "float16"}:
        raise ValueError("dtype must be float32, bfloat16 or float16")
    config = read_configuration(directory)
    checkpoint_files.stored_tensors(checkpoint_files.weight_files(directory))
    tokenizer = load_tokenizer(directory) if tokenizer is None else tokenizer
    placing = (
        place(config.model_class, config.values, getattr(torch, dtype))
        if device is None
        else Placing(torch.device(device))
    )
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # its report would name what the files hold
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config.values,
            dtype=getattr(torch, dtype),
            device_map=placing.device_map,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointRejected(
            "weights_unusable", "transformers cannot load these weights with this config.json."
        ) from error
    if absent := sorted(loading["missing_keys"]):
        raise CheckpointRejected(
            "weights_incomplete", f"{len(absent)} tensors are missing; the first is {absent[0]}."
        )
    language_model = LanguageModel(
        model=(model if placing.device_map else model.to(placing.device)).eval(),
        tokenizer=tokenizer,
        prefix_token_id=prefix_token_id_of(tokenizer),
        context_length=config.context_with(tokenizer),
        vocabulary_size=model.get_output_embeddings().weight.shape[0],
        device=placing.device,
        dtype=getattr(torch, dtype),
        own_prefix_token_ids=tokens_put_in_front(tokenizer),
    )
    _probe(language_model)
    return replace(language_model, packs=packs_fast(language_model))


@torch.inference_mode()
def packs_fast(language_model: LanguageModel) -> bool:
    """Whether the model packs and gains by it: one kernel attends to all windows, of halves on a GPU."""
    if language_model.device.type != "cuda" or language_model.dtype == torch.float32:
        return False
    tokens = probe_tokens(language_model)
    return packs(language_model.model, tokens[0], base_hidden_states(language_model.model, tokens)[0])


def probe_tokens(language_model: LanguageModel) -> torch.Tensor:
    """A few tokens [1, N] that every model knows, to look at its logits."""
    count = min(_PROBE_TOKENS, language_model.context_length)
    return torch.arange(count, device=language_model.device)[None] % language_model.vocabulary_size


def _probe(language_model: LanguageModel) -> None:
    """Run a few tokens to see that the model runs at all and that two shortcuts of scoring hold for it."""
    try:
        _check_shortcuts(language_model)
    except CheckpointRejected:
        raise
    except Exception as error:  # each model class fails in its own way on values that do not fit together
        if "memory" in str(
            error
        ):  # not the checkpoint's fault, and that of a broken device is told by its cause
            raise
        raise CheckpointRejected(
            "weights_unusable",
            "The model fails at the first tokens: values in config.json do not fit together.",
        ) from error


@torch.inference_mode()
def _check_shortcuts(language_model: LanguageModel) -> None:
    """See that the two shortcuts of scoring hold for this model.

    Scoring projects chosen hidden states itself instead of asking for all logits, and pads on the right
    without a mask. The first needs logits that are a projection of the base model's hidden states, the
    second needs a model in which no token sees a later one.
    """
    model = language_model.model
    tokens = probe_tokens(language_model)
    count = tokens.shape[1]
    logits = model(input_ids=tokens, use_cache=False).logits.float()
    if not torch.isfinite(logits).all():
        raise CheckpointRejected(
            "weights_not_finite", "The weights give logits that are not finite in this dtype; try float32."
        )
    # Rounding of a few tokens: about 1e-6 in float32, about 1e-2 in the half-precision formats.
    tolerance = (1e-4 if language_model.dtype == torch.float32 else 5e-2) * logits.abs().max()
    whole = project_to_vocabulary(model, base_hidden_states(model, tokens))
    half = project_to_vocabulary(model, base_hidden_states(model, tokens[:, : count // 2]))
    if (whole - logits).abs().max() > tolerance:
        raise CheckpointRejected(
            "unsupported_architecture", "Its logits are not a projection of the base model's hidden states."
        )
    if (half - logits[:, : count // 2]).abs().max() > tolerance:
        raise CheckpointRejected("unsupported_architecture", "It is not causal: tokens see later tokens.")
