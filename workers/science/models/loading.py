"""Checkpoints in Hugging Face layout: described without their weights, then loaded for scoring."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from workers.science.errors import CheckpointRejected
from workers.science.models import checkpoint_files
from workers.science.models.checkpoint_files import CONFIG, VOCABULARY_FILES
from workers.science.models.tokenization import tokens_put_in_front
from workers.science.scoring.likelihood import base_hidden_states, project_to_vocabulary

DEFAULT_CONTEXT_LENGTH = 2048
# Tokenizers without a limit of their own report a number of the order of 1e30.
_UNLIMITED = 10**9
_CONTEXT_LENGTH_NAMES = ("n_positions", "max_position_embeddings", "n_ctx")
_PROBE_TOKENS = 16


@dataclass(frozen=True)
class TokenizerDescription:
    """The special tokens that matter before a text.

    Attributes:
        bos_token_id: beginning of sequence, if the tokenizer has such a token.
        eos_token_id: end of sequence, if it has such a token.
        prefix_token_ids: what it puts before a text by itself; empty if it adds nothing there.
    """

    bos_token_id: int | None
    eos_token_id: int | None
    prefix_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Dimensions:
    """The shape of a decoder: the widths of its residual stream and of its MLPs, and how many layers."""

    hidden: int
    intermediate: int
    layers: int


@dataclass(frozen=True)
class CheckpointDescription:
    """What a checkpoint is, read from its configuration, its safetensors headers and its bytes.

    Attributes:
        architecture: class name of the causal language model, such as `LlamaForCausalLM`.
        model_type: the configuration's own name of the architecture, such as `llama`.
        parameter_count: numbers stored in the safetensors files.
        dtype: number format of most of them, as torch names it.
        context_length: tokens that the model sees at once, the prefix token included.
        vocabulary_size: rows of the output embedding.
        tokenizer: what its tokenizer does before a text.
        dimensions: its shape, if the configuration says it by the usual names.
        files: sha256 of every file that is used, by name.
        digest: one sha256 over the sorted names and digests.
    """

    architecture: str
    model_type: str
    parameter_count: int
    dtype: str
    context_length: int
    vocabulary_size: int
    tokenizer: TokenizerDescription
    dimensions: Dimensions | None
    files: dict[str, str]
    digest: str


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in memory with its tokenizer.

    `prefix_token_id` is BOS, else EOS. `own_prefix_token_ids` is what the tokenizer puts before a text by
    itself, often nothing.
    """

    model: Any
    tokenizer: Any
    prefix_token_id: int
    context_length: int
    vocabulary_size: int
    device: torch.device
    dtype: torch.dtype
    own_prefix_token_ids: tuple[int, ...] = ()

    @property
    def padding_token_id(self) -> int:
        """What fills up rows of unlike length; masked and never scored, but looked up, so it has a row.

        The prefix token, unless the tokenizer was given that without the model growing for it.
        """
        return self.prefix_token_id if self.prefix_token_id < self.vocabulary_size else 0


def describe_checkpoint(directory: Path) -> CheckpointDescription:
    """Check that a checkpoint can be scored and say what it is, without loading its weights.

    Raises:
        CheckpointRejected: with one of the codes `file_missing`, `json_invalid`, `custom_code`,
            `unsupported_architecture`, `unsupported_quantization`, `no_safetensors`, `weights_incomplete`,
            `weights_unreadable`, `tokenizer_missing`, `tokenizer_unusable`, `no_prefix_token`.
    """
    config, architecture = _read_config(directory)
    weights = checkpoint_files.weight_files(directory)
    parameter_count, dtype = checkpoint_files.parameter_count_and_dtype(weights)
    tokenizer = _load_tokenizer(directory)
    _prefix_token_id(tokenizer)
    names = [CONFIG, "generation_config.json", *checkpoint_files.TOKENIZER_FILES]
    if weights[0].name != checkpoint_files.WEIGHTS:
        names.append(checkpoint_files.WEIGHTS_INDEX)
    files = checkpoint_files.digest_files(
        [*weights, *(directory / name for name in names if (directory / name).is_file())]
    )
    return CheckpointDescription(
        architecture=architecture,
        model_type=config.model_type,
        parameter_count=parameter_count,
        dtype=dtype,
        context_length=_context_length(config, tokenizer),
        vocabulary_size=config.get_text_config().vocab_size,
        tokenizer=TokenizerDescription(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            prefix_token_ids=tokens_put_in_front(tokenizer),
        ),
        dimensions=_dimensions(config),
        files=files,
        digest=checkpoint_files.digest_of_digests(files),
    )


def load_language_model(
    directory: Path, *, device: str | None = None, dtype: str = "float32"
) -> LanguageModel:
    """Load a checkpoint for scoring, in evaluation mode.

    Args:
        directory: checkpoint in Hugging Face layout.
        device: such as `cpu` or `cuda:0`; by default the first GPU if there is one.
        dtype: of the weights in memory: `float32`, `bfloat16` or `float16`.

    Raises:
        CheckpointRejected: as `describe_checkpoint`; also when tensors are missing from the files
            (`weights_incomplete`) or do not fit the configuration (`weights_unusable`), when the weights
            give logits that are not finite (`weights_not_finite`), or when the model is not a causal one
            whose logits are a projection (`unsupported_architecture`).
        ValueError: if `dtype` is none of the three.
    """
    if dtype not in {"float32", "bfloat16", "float16"}:
        raise ValueError("dtype must be float32, bfloat16 or float16")
    config, _ = _read_config(directory)
    checkpoint_files.parameter_count_and_dtype(checkpoint_files.weight_files(directory))
    tokenizer = _load_tokenizer(directory)
    chosen_device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    transformers_logging.disable_progress_bar()
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config,
            dtype=getattr(torch, dtype),
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
        model=model.to(chosen_device).eval(),
        tokenizer=tokenizer,
        prefix_token_id=_prefix_token_id(tokenizer),
        context_length=_context_length(config, tokenizer),
        vocabulary_size=model.get_output_embeddings().weight.shape[0],
        device=chosen_device,
        dtype=getattr(torch, dtype),
        own_prefix_token_ids=tokens_put_in_front(tokenizer),
    )
    _probe(language_model)
    return language_model


def probe_tokens(language_model: LanguageModel) -> torch.Tensor:
    """A few tokens [1, N] that every model knows, to look at its logits."""
    count = min(_PROBE_TOKENS, language_model.context_length)
    return torch.arange(count, device=language_model.device)[None] % language_model.vocabulary_size


def _read_config(directory: Path) -> tuple[Any, str]:
    """The configuration and the class name of the causal language model that it asks for.

    Weights of another format are refused first: a directory of them often has no configuration either.
    """
    checkpoint_files.reject_other_formats([path.name for path in directory.glob("*")])
    content = checkpoint_files.read_json(directory, CONFIG)
    checkpoint_files.reject_custom_code(directory)
    if content.get("quantization_config"):
        raise CheckpointRejected(
            "unsupported_quantization", "The weights are quantized; register the unquantized checkpoint."
        )
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointRejected("unsupported_architecture", "transformers knows no such `model_type`.")
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each configuration class fails in its own way on bad values
        raise CheckpointRejected(
            "json_invalid", f"{CONFIG} has values that {model_type} does not allow."
        ) from error
    supported = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if supported is None:
        raise CheckpointRejected("unsupported_architecture", f"{model_type} has no causal language model.")
    declared = content.get("architectures") or [supported.__name__]
    if supported.__name__ not in declared:
        raise CheckpointRejected(
            "unsupported_architecture",
            f"{CONFIG} declares an architecture that is not {model_type}'s causal language model, "
            f"{supported.__name__}.",
        )
    return config, supported.__name__


def _load_tokenizer(directory: Path) -> Any:
    if not any((directory / name).is_file() for name in VOCABULARY_FILES):
        raise CheckpointRejected(
            "tokenizer_missing", "The checkpoint has no tokenizer; add its tokenizer.json."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each tokenizer class fails in its own way on bad files
        raise CheckpointRejected(
            "tokenizer_unusable", "The tokenizer's files cannot be loaded; save them as tokenizer.json."
        ) from error
    if not tokenizer.is_fast or len(tokenizer) == 0:
        raise CheckpointRejected(
            "tokenizer_unusable",
            "The tokenizer has no fast form (tokenizer.json), so tokens have no offsets.",
        )
    return tokenizer


def _prefix_token_id(tokenizer: Any) -> int:
    """BOS, else EOS."""
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise CheckpointRejected(
        "no_prefix_token",
        "The tokenizer has neither a BOS nor an EOS token, so a first token cannot be scored.",
    )


def _dimensions(config: Any) -> Dimensions | None:
    text_config = config.get_text_config()
    hidden, layers = _whole(text_config, "hidden_size"), _whole(text_config, "num_hidden_layers")
    intermediate = _whole(text_config, "intermediate_size")
    if hidden is None or layers is None:
        return None
    if getattr(text_config, "intermediate_size", None) is None:
        intermediate = 4 * hidden  # as GPT-2's configuration leaves it to the convention
    return None if intermediate is None else Dimensions(hidden, intermediate, layers)


def _whole(config: Any, name: str) -> int | None:
    """A size; None where it is not said, or not one number."""
    size = getattr(config, name, None)
    return size if isinstance(size, int) else None


def _context_length(config: Any, tokenizer: Any) -> int:
    """The context length as lm-evaluation-harness resolves it: configuration, then tokenizer, then 2048."""
    text_config = config.get_text_config()
    for name in _CONTEXT_LENGTH_NAMES:
        length = getattr(text_config, name, None)
        if length is not None:
            return int(length)
    limit = int(tokenizer.model_max_length)
    return limit if limit < _UNLIMITED else DEFAULT_CONTEXT_LENGTH


@torch.inference_mode()
def _probe(language_model: LanguageModel) -> None:
    """Run a few tokens to see that the two shortcuts of scoring hold for this model.

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
