"""What a checkpoint is: read and checked without its weights being loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from workers.science.errors import CheckpointRejected
from workers.science.models import checkpoint_files
from workers.science.models.checkpoint_files import CONFIG
from workers.science.models.configuration import Configuration, Dimensions, read_configuration
from workers.science.models.declared_weights import check_declared_weights
from workers.science.models.tokenizer_files import TokenizerDescription, describe_tokenizer, load_tokenizer
from workers.science.models.weight_numbers import digest_weights


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


def describe_checkpoint(
    directory: Path,
    on_trial: Callable[[], object] = lambda: None,
    on_match: Callable[[int], object] = lambda _: None,
    on_read: Callable[[int], object] = lambda _: None,
) -> CheckpointDescription:
    """Check that a checkpoint can be scored and say what it is; its weights are read, but never loaded.

    What its files hold decides how much time and memory this takes: those of strangers are described in a
    process with limits.

    Args:
        directory: checkpoint in Hugging Face layout.
        on_trial: called before the tokenizer, once it is loaded, is given a text.
        on_match: see `check_declared_weights`.
        on_read: called with the number of bytes of each piece of the weights that was read; may raise.

    Raises:
        CheckpointRejected: with one of the codes `file_missing`, `json_invalid`, `custom_code`,
            `setting_refused`, `unsupported_architecture`, `unsupported_quantization`, `size_unusable`,
            `context_unusable`, `no_safetensors`, `weights_incomplete`, `weights_unreadable`,
            `weights_unusable`, `weights_not_finite`, `tokenizer_missing`, `tokenizer_unusable`,
            `no_prefix_token`.
    """
    config = read_configuration(directory)
    stored = checkpoint_files.stored_tensors(checkpoint_files.weight_files(directory))
    tensors = list(chain.from_iterable(stored.values()))
    parameter_count, dtype = checkpoint_files.parameter_count_and_dtype(tensors)
    _require_tensors_for_layers(config, len(tensors))
    tokenizer = load_tokenizer(directory)
    on_trial()
    described = describe_tokenizer(tokenizer)
    context_length = config.context_with(tokenizer)
    unused = check_declared_weights(config.model_class, config.values, tensors, on_match)
    files = checkpoint_files.digest_files(checkpoint_files.described_files(directory))
    files |= {path.name: digest_weights(path, held, unused, on_read) for path, held in stored.items()}
    return CheckpointDescription(
        architecture=config.architecture,
        model_type=config.values.model_type,
        parameter_count=parameter_count,
        dtype=dtype,
        context_length=context_length,
        vocabulary_size=config.vocabulary_size,
        tokenizer=described,
        dimensions=config.dimensions,
        files=files,
        digest=checkpoint_files.digest_of_digests(files),
    )


def _require_tensors_for_layers(config: Configuration, n_tensors: int) -> None:
    """Refuse more layers than there are tensors: to build them would take for ever."""
    if config.dimensions is not None and config.dimensions.layers > n_tensors:
        raise CheckpointRejected(
            "weights_incomplete", f"{CONFIG} asks for more layers than the weights files have tensors."
        )
