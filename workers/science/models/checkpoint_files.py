"""What a checkpoint's files say by themselves: configuration, tensors and digests, with no weights loaded."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from workers.science.errors import CheckpointRejected
from workers.science.models.checked_json import read_checked
from workers.science.models.safetensors_header import MOST_TENSORS, StoredTensor, read_header

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
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
# Those of them that are settings; the others are vocabularies, which are as large as they are.
SETTINGS_OF_TOKENIZERS = (TOKENIZER_CONFIG, "special_tokens_map.json")
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

# The largest published models have 191. All are open at once, and many machines allow a process 1024 files.
MOST_SHARDS: Final = 500
_SHARD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,187}\.safetensors")

# safetensors' names of the number formats, as torch names them.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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
        files = [directory / name for name in shard_names(directory)]
        if missing := [file for file in files if not file.is_file()]:
            raise CheckpointRejected(
                "weights_incomplete", f"{len(missing)} of the files that {WEIGHTS_INDEX} names are not there."
            )
        return files
    raise CheckpointRejected("no_safetensors", f"The checkpoint has neither {WEIGHTS} nor {WEIGHTS_INDEX}.")


def shard_names(directory: Path) -> list[str]:
    """The names of files in the index of shards, in order.

    Raises:
        CheckpointRejected: `json_invalid`, if it names anything but files of this directory, or too many.
    """
    weight_map = read_checked(directory, WEIGHTS_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointRejected("json_invalid", f"{WEIGHTS_INDEX} has no `weight_map` of file names.")
    names = set(weight_map.values())
    if len(names) > MOST_SHARDS or not all(_SHARD.fullmatch(name) for name in names):
        raise CheckpointRejected(
            "json_invalid",
            f"{WEIGHTS_INDEX} must name at most {MOST_SHARDS} files of this directory, each of at most 200 "
            "letters, digits, dots, dashes and underscores that end in .safetensors.",
        )
    return sorted(names)


def stored_tensors(files: Iterable[Path]) -> dict[Path, list[StoredTensor]]:
    """What the safetensors headers declare, by file.

    Raises:
        CheckpointRejected: `weights_unreadable`, see `read_header`; `weights_incomplete` when there are no
            tensors; `weights_unusable` when a name is in two files.
    """
    found = {}
    names: set[str] = set()
    for path in files:
        with path.open("rb") as file:
            tensors = read_header(file, path.name)
        found[path] = tensors
        before = len(names)
        names.update(tensor.name for tensor in tensors)
        if len(names) < before + len(tensors):
            raise CheckpointRejected("weights_unusable", f"{path.name} has a tensor of another file too.")
        if len(names) > MOST_TENSORS:
            raise CheckpointRejected("weights_unusable", f"The files hold more than {MOST_TENSORS} tensors.")
    if not names:
        raise CheckpointRejected("weights_incomplete", "The safetensors files hold no tensors.")
    return found


def parameter_count_and_dtype(tensors: Iterable[StoredTensor]) -> tuple[int, str]:
    """How many numbers there are, and the number format of most of them.

    Raises:
        CheckpointRejected: `weights_incomplete`, if there are none; `unsupported_quantization`, if most are
            not floating-point numbers of 16 bits or more.
    """
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += tensor.size
    if not counts.total():
        raise CheckpointRejected("weights_incomplete", "The safetensors files hold no numbers.")
    stored = counts.most_common(1)[0][0]
    if stored not in _DTYPES:
        raise CheckpointRejected(
            "unsupported_quantization", "The weights are quantized; register the unquantized checkpoint."
        )
    return counts.total(), _DTYPES[stored]


def described_files(directory: Path) -> list[Path]:
    """The files beside the weights that decide what a checkpoint is."""
    names = [CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES]
    if not (directory / WEIGHTS).is_file():
        names.append(WEIGHTS_INDEX)
    return [directory / name for name in names if (directory / name).is_file()]


def digest_files(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of each file in lower-case hex, by file name."""
    digests = {}
    for path in sorted(paths):
        with path.open("rb") as stream:
            digests[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def digest_checkpoint(directory: Path) -> str:
    """The digest that `describe_checkpoint` gives a checkpoint, without a look at what its files say."""
    return digest_of_digests(digest_files([*weight_files(directory), *described_files(directory)]))


def digest_of_digests(files: dict[str, str]) -> str:
    """One sha256 for all files: of what `sha256sum` prints for them, sorted by name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
