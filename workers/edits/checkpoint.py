"""The checkpoint of an edited model: the base's files, with new numbers in the tensors that were edited."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.errors import EditFailed, LanguageModelChanged
from workers.science.models.checkpoint_files import digest_files, weight_files

_CHAT_TEMPLATES: Final = "*.jinja"


def write_checkpoint(
    base: Path, files: Mapping[str, str], edited: Mapping[str, Tensor], prefix: str, target: Path
) -> None:
    """Write a checkpoint: shards without an edited tensor and the other files are copied byte by byte.

    Only files that were registered are copied, and chat templates.

    Args:
        base: directory of the base's checkpoint.
        files: its registered files with their sha256.
        edited: whole parameters by their name in the model.
        prefix: name of the base model inside the causal model, which some checkpoints leave out of names.
        target: an empty directory.

    Raises:
        EditFailed: the checkpoint has no tensor of one of these names and shapes.
        LanguageModelChanged: a file differs from what was registered.
    """
    if digest_files(base / name for name in files) != files:
        raise LanguageModelChanged(
            "The files differ from those that were registered; register the language model again."
        )
    left = dict(edited)
    shards = weight_files(base)
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            names = set(file.keys())
            metadata = file.metadata()
        found = {name: stored for name in left if (stored := _stored_name(name, names, prefix)) is not None}
        if not found:
            shutil.copyfile(shard, target / shard.name)
            continue
        tensors = load_file(shard)
        for name, stored in found.items():
            new = left.pop(name)
            if new.shape != tensors[stored].shape:
                raise EditFailed(f"The checkpoint stores {stored} in another shape than the model has it.")
            tensors[stored] = new.detach().to("cpu", tensors[stored].dtype).contiguous()
        save_file(tensors, target / shard.name, metadata=metadata)
    if left:
        raise EditFailed(f"The checkpoint has no tensor of the name {min(left)}.")
    weights = {shard.name for shard in shards}
    templates = {path.name for path in base.glob(_CHAT_TEMPLATES)}
    for name in sorted(templates.union(files) - weights):
        shutil.copyfile(base / name, target / name)


def _stored_name(name: str, stored: set[str], prefix: str) -> str | None:
    for candidate in (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}"):
        if candidate in stored:
            return candidate
    return None
