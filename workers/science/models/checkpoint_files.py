"""What a checkpoint's files say by themselves: configuration, tensors and digests, with no weights loaded."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from workers.science.errors import CheckpointRejected

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
VOCABULARY_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "merges.txt",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
)
# What weights come in that are not read, and why and how they become safetensors.
_CONVERT = (
    "Convert them where you trust them, `AutoModelForCausalLM.from_pretrained({}).save_pretrained(NEW)` and "
    "`AutoTokenizer.from_pretrained({}).save_pretrained(NEW)` with transformers, and register NEW."
)
_OTHER_FORMATS = {
    (
        ".gguf",
    ): "The weights are GGUF; only safetensors are read. Best register the checkpoint that they were "
    "made from, as GGUF is mostly quantized. " + _CONVERT.format(*["OLD, gguf_file=FILE"] * 2),
    (
        ".bin",
        ".pt",
        ".pth",
        ".ckpt",
    ): "The weights are pickled, and unpickling can run code; only safetensors "
    "are read. " + _CONVERT.format("OLD", "OLD"),
}

# safetensors' names of the number formats, as torch names them.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the checkpoint.

    Raises:
        CheckpointRejected: `file_missing`, or `json_invalid` when it is not a JSON object.
    """
    path = directory / name
    if not path.is_file():
        raise CheckpointRejected("file_missing", f"The checkpoint has no {name}.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointRejected("json_invalid", f"{name} cannot be read as JSON.") from error
    if not isinstance(content, dict):
        raise CheckpointRejected("json_invalid", f"{name} is not a JSON object.")
    return content


def reject_custom_code(directory: Path) -> None:
    """Refuse checkpoints that name Python code of their own: it is never run.

    Raises:
        CheckpointRejected: `custom_code`.
    """
    for name in (CONFIG, TOKENIZER_CONFIG):
        if (directory / name).is_file() and read_json(directory, name).get("auto_map"):
            raise CheckpointRejected(
                "custom_code",
                f"{name} names custom code (`auto_map`), which is never run. If transformers' own "
                "implementation is meant, save the checkpoint again with it.",
            )


def reject_other_formats(names: Collection[str]) -> None:
    """Refuse a checkpoint whose weights are of another format, by the names of its files, and say what to do.

    Raises:
        CheckpointRejected: `no_safetensors`.
    """
    if any(".safetensors" in name for name in names):
        return
    for endings, advice in _OTHER_FORMATS.items():
        if any(name.lower().endswith(endings) for name in names):
            raise CheckpointRejected("no_safetensors", advice)


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that hold the weights, in the order of their names.

    As in transformers, a single `model.safetensors` goes before an index of shards.

    Raises:
        CheckpointRejected: `no_safetensors`, `json_invalid`, or `weights_incomplete` for a missing shard.
    """
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / WEIGHTS_INDEX).is_file():
        weight_map = read_json(directory, WEIGHTS_INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointRejected("json_invalid", f"{WEIGHTS_INDEX} has no `weight_map` of file names.")
        shards = sorted(set(weight_map.values()))
        for name in shards:
            if Path(name).name != name or not (directory / name).is_file():
                raise CheckpointRejected(
                    "weights_incomplete", f"{WEIGHTS_INDEX} names a missing file: {name}."
                )
        return [directory / name for name in shards]
    raise CheckpointRejected("no_safetensors", f"The checkpoint has neither {WEIGHTS} nor {WEIGHTS_INDEX}.")


def parameter_count_and_dtype(files: Iterable[Path]) -> tuple[int, str]:
    """How many numbers the safetensors headers declare, and the number format of most of them.

    Raises:
        CheckpointRejected: `weights_unreadable` when a file is truncated or is no safetensors file.
    """
    counts: Counter[str] = Counter()
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                    tensor = tensors.get_slice(name)
                    size = 1
                    for length in tensor.get_shape():
                        size *= length
                    counts[tensor.get_dtype()] += size
        except (SafetensorError, OSError) as error:
            raise CheckpointRejected(
                "weights_unreadable", f"{file.name} is truncated or is not a safetensors file."
            ) from error
    if not counts:
        raise CheckpointRejected("weights_incomplete", "The safetensors files hold no tensors.")
    stored = counts.most_common(1)[0][0]
    return counts.total(), _DTYPES.get(stored, stored.lower())


def digest_files(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each file in lower-case hex, by file name."""
    digests = {}
    for path in sorted(paths):
        with path.open("rb") as stream:
            digests[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def digest_of_digests(files: dict[str, str]) -> str:
    """One sha256 for all files: of what `sha256sum` prints for them, sorted by name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
