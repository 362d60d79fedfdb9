"""The configuration of a checkpoint: read by transformers within bounds, before anything is built from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

from workers.science.errors import CheckpointRejected
from workers.science.models.checked_json import read_checked
from workers.science.models.checkpoint_files import CONFIG, GENERATION_CONFIG, reject_other_formats

DEFAULT_CONTEXT_LENGTH: Final = 2048
# A prefix token and a few more: with less, windows and probes have no room.
SHORTEST_CONTEXT: Final = 16
LONGEST_CONTEXT: Final = 2**24
# Tokenizers without a limit of their own report a number of the order of 1e30.
_UNLIMITED: Final = 10**9
_CONTEXT_LENGTH_NAMES: Final = ("n_positions", "max_position_embeddings", "n_ctx")
# The largest sizes that are believed; published models stay well below each.
_LARGEST: Final[Mapping[str, int]] = {
    "vocab_size": 2**22,
    "hidden_size": 2**18,
    "intermediate_size": 2**22,
    "num_hidden_layers": 2**10,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "head_dim": 2**16,
    "num_experts": 2**14,
    "num_local_experts": 2**14,
    "n_routed_experts": 2**14,
}


@dataclass(frozen=True)
class Dimensions:
    """The shape of a decoder: the widths of its residual stream and of its MLPs, and how many layers."""

    hidden: int
    intermediate: int
    layers: int


@dataclass(frozen=True)
class Configuration:
    """What a `config.json` asks for.

    Attributes:
        values: the configuration of transformers.
        model_class: the causal language model of transformers that it is of.
        vocabulary_size: rows of the output embedding.
        context_length: tokens that the model sees at once; None if it does not say.
        dimensions: its shape, if the configuration says it by the usual names.
    """

    values: Any
    model_class: Any
    vocabulary_size: int
    context_length: int | None
    dimensions: Dimensions | None

    @property
    def architecture(self) -> str:
        """Class name of the causal language model, such as `LlamaForCausalLM`."""
        return str(self.model_class.__name__)

    def context_with(self, tokenizer: Any) -> int:
        """The context length as lm-evaluation-harness resolves it: configuration, then tokenizer, then 2048.

        Raises:
            CheckpointRejected: `context_unusable`, if it is too short for an audit or is no length.
        """
        length = self.context_length
        if length is None:
            limit = int(tokenizer.model_max_length)
            length = limit if limit < _UNLIMITED else DEFAULT_CONTEXT_LENGTH
        if not SHORTEST_CONTEXT <= length <= LONGEST_CONTEXT:
            raise CheckpointRejected(
                "context_unusable",
                f"The context length must be {SHORTEST_CONTEXT} to {LONGEST_CONTEXT} tokens: correct "
                "max_position_embeddings in config.json, or model_max_length in tokenizer_config.json.",
            )
        return length


def read_configuration(directory: Path) -> Configuration:
    """The configuration of a checkpoint, if a causal language model of transformers is meant.

    Weights of another format are refused first: a directory of them often has no configuration either.

    Raises:
        CheckpointRejected: `no_safetensors`; what `read_checked` raises; `unsupported_architecture`;
            `json_invalid`, for values that the architecture does not allow; `size_unusable`, for sizes that
            no model has.
    """
    reject_other_formats([path.name for path in directory.glob("*")])
    content = read_checked(directory, CONFIG)
    if (directory / GENERATION_CONFIG).is_file():
        read_checked(directory, GENERATION_CONFIG)
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointRejected("unsupported_architecture", "transformers knows no such `model_type`.")
    try:
        values = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        found = _examined(values, content, model_type)
    except CheckpointRejected:
        raise
    except Exception as error:  # each configuration class fails in its own way on bad values
        raise CheckpointRejected(
            "json_invalid", f"{CONFIG} has values that {model_type} does not allow."
        ) from error
    return found


def _examined(values: Any, content: Mapping[str, Any], model_type: str) -> Configuration:
    supported = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(values), None)
    if supported is None:
        raise CheckpointRejected("unsupported_architecture", f"{model_type} has no causal language model.")
    declared = content.get("architectures") or [supported.__name__]
    if supported.__name__ not in declared:
        raise CheckpointRejected(
            "unsupported_architecture",
            f"{CONFIG} declares an architecture that is not {model_type}'s causal language model, "
            f"{supported.__name__}.",
        )
    text_config = values.get_text_config()
    for name, largest in _LARGEST.items():
        _require_size(name, getattr(text_config, name, None), largest)
    return Configuration(
        values=values,
        model_class=supported,
        vocabulary_size=text_config.vocab_size,
        context_length=_context_length(text_config),
        dimensions=_dimensions(text_config),
    )


def _require_size(name: str, size: Any, largest: int) -> None:
    """Refuse a size that no model has; some architectures have one for each layer."""
    sizes = size if isinstance(size, (list, tuple)) else [size]
    for each in sizes:
        if each is not None and not (type(each) is int and 0 <= each <= largest):
            raise CheckpointRejected(
                "size_unusable", f"{name} in {CONFIG} must be a whole number of at most {largest}."
            )


def _dimensions(text_config: Any) -> Dimensions | None:
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


def _context_length(text_config: Any) -> int | None:
    for name in _CONTEXT_LENGTH_NAMES:
        length = getattr(text_config, name, None)
        if length is not None:
            return int(length)
    return None
