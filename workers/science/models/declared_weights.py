"""Whether the tensors that files declare are those of the model that a configuration asks for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import ContextManagers
from transformers.utils import logging as transformers_logging

from workers.science.errors import CheckpointRejected
from workers.science.models.safetensors_header import StoredTensor

# Tables that a model makes for itself, such as masks of all pairs of positions: 100 MB in published models.
MOST_BUFFER_BYTES: Final = 2**30
# A query, a key and a value in one, or two projections of an expert, and their scales.
_FUSED: Final = 4
_LEFT_OVER: Final = 1000
_MATRIX: Final = 2
_META: Final = torch.device("meta")


def check_declared_weights(
    model_class: Any,
    config: Any,
    stored: Sequence[StoredTensor],
    on_match: Callable[[int], object] = lambda _: None,
) -> set[str]:
    """Build the model without memory for its numbers, and load tensors without numbers into it.

    transformers itself says which names and shapes it takes for which: tied weights, names of older releases,
    tensors that are left over. Run it in a process with limits: a configuration may ask for anything.

    Args:
        model_class: the causal language model of transformers.
        config: its configuration.
        stored: what the safetensors headers declare.
        on_match: called with their number before they are matched, which takes so much longer the more they
            are; not if there are more than the model can have come from.

    Returns:
        Names of tensors that the model does not take.

    Raises:
        CheckpointRejected: `weights_incomplete`, if a parameter is in no file; `weights_unusable`, if one has
            another shape there, has no number, or if the model cannot be built.
    """
    try:
        model, found = _load(model_class, config, stored, on_match)
    except CheckpointRejected:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # each model class fails in its own way on bad values
        raise CheckpointRejected(
            "weights_unusable", "transformers cannot build the model that config.json describes."
        ) from error
    if found.missing:
        raise CheckpointRejected(
            "weights_incomplete",
            f"The model that config.json describes has {len(found.missing)} tensors that are in no weights "
            f"file; the first is {min(found.missing)}.",
        )
    if found.misshaped:
        raise CheckpointRejected(
            "weights_unusable",
            f"{len(found.misshaped)} tensors have another shape in the weights files than in the model that "
            f"config.json describes; the first is {min(found.misshaped)}.",
        )
    if not all(parameter.numel() for parameter in model.parameters()):
        raise CheckpointRejected("weights_unusable", "A parameter of the model has no number.")
    if _bytes(model.buffers()) > MOST_BUFFER_BYTES:
        raise CheckpointRejected(
            "weights_unusable",
            f"The model that config.json describes makes tables of more than {MOST_BUFFER_BYTES} bytes for "
            "itself; lower max_position_embeddings.",
        )
    return found.unused


@dataclass(frozen=True)
class _Found:
    """Names of parameters in no file or of another shape there, and of tensors that are left over."""

    missing: set[str]
    misshaped: set[str]
    unused: set[str]


def _load(
    model_class: Any, config: Any, stored: Sequence[StoredTensor], on_match: Callable[[int], object]
) -> tuple[Any, _Found]:
    """The model, and how the tensors fit it.

    `from_pretrained` does the same, but takes a device only where accelerate is installed.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # its report would name what the files hold
    context = model_class.get_init_context(
        torch.float32, is_quantized=False, _is_ds_init_called=False, allow_all_kernels=False
    )
    with ContextManagers(context):
        model = model_class(config)
    _require_plausible(model, len(stored))
    on_match(len(stored))
    loading = LoadStateDictConfig(
        ignore_mismatched_sizes=True,
        device_map={"": _META},
        dtype=torch.float32,
        weight_mapping=get_model_conversion_mapping(model),
    )
    tensors = {tensor.name: torch.empty(tensor.shape, device=_META) for tensor in stored}
    info, _ = model_class._load_pretrained_model(model, tensors, None, loading)  # noqa: SLF001 - see above
    unused = set(info.unexpected_keys)
    info = model_class._finalize_model_loading(model, loading, info)  # noqa: SLF001 - see above
    return model, _Found(set(info.missing_keys), {name for name, *_ in info.mismatched_keys}, unused)


def _require_plausible(model: Any, n_stored: int) -> None:
    """Refuse far more tensors than a model can have come from: to match them by name would take for ever.

    Parameters of experts are stored apart, and so are those that transformers fuses; some that are not used
    any more are left over.
    """
    shapes = [parameter.shape for parameter in model.parameters()]
    most = _LEFT_OVER + _FUSED * sum(shape[0] if len(shape) > _MATRIX else 1 for shape in shapes)
    if n_stored > most:
        raise CheckpointRejected(
            "weights_unusable",
            "The weights files have many more tensors than the model that config.json describes.",
        )


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
