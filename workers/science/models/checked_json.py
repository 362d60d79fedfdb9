"""JSON files of a checkpoint within limits, and without the settings that no checkpoint may make."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from workers.science.errors import CheckpointRejected

MOST_JSON_BYTES: Final = 16 * 2**20
MOST_DEPTH: Final = 32
MOST_VALUES: Final = 500_000
# Every value but the outermost comes after one of these.
_MARKS: Final = (b",", b"[", b"{")
_CODE: Final = (
    "custom_code",
    (
        "{} names custom code (`{}`), which is never run. If transformers' own implementation is meant, save "
        "the checkpoint again with it."
    ),
)
_ATTENTION: Final = (
    "setting_refused",
    "{} chooses an implementation (`{}`), which is the worker's to choose; remove the setting.",
)
_QUANTIZED: Final = (
    "unsupported_quantization",
    "The weights are quantized ({} has `{}`); register the unquantized checkpoint.",
)
_FILES: Final = (
    "setting_refused",
    "{} leads to other files (`{}`); remove the setting and use the usual names.",
)
# What a checkpoint may not say at any depth, unless it says nothing by it, and why.
_REFUSED: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"), _CODE),
    **dict.fromkeys(
        (
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_internal",
            "experts_implementation",
            "_experts_implementation",
            "_experts_implementation_internal",
            "use_kernels",
            "kernel_config",
            "fusion_config",
        ),
        _ATTENTION,
    ),
    **dict.fromkeys(("quantization_config", "compression_config"), _QUANTIZED),
    **dict.fromkeys(
        (
            "transformers_weights",
            "configuration_files",
            "fast_tokenizer_files",
            # Settings that tokenizers take for arguments of their classes, and open.
            "gguf_file",
            "vocab_file",
            "merges_file",
            "vocab",
            "merges",
        ),
        _FILES,
    ),
}


def read_checked(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint.

    Raises:
        CheckpointRejected: `file_missing`; `json_invalid`, if it is no JSON object, is longer, deeper or more
            than the limits, or has text that is none; `custom_code`, `setting_refused` or
            `unsupported_quantization` for a setting that no checkpoint may make.
    """
    path = directory / name
    if not path.is_file():
        raise CheckpointRejected("file_missing", f"The checkpoint has no {name}.")
    content = _load(path, name)
    if not isinstance(content, dict):
        raise CheckpointRejected("json_invalid", f"{name} is not a JSON object.")
    for mapping in _checked(content, name):
        for key in mapping.keys() & _REFUSED.keys():
            if mapping[key]:
                code, text = _REFUSED[key]
                raise CheckpointRejected(code, text.format(name, key))
    return content


def _load(path: Path, name: str) -> Any:
    if path.stat().st_size > MOST_JSON_BYTES:
        raise CheckpointRejected("json_invalid", f"{name} is longer than {MOST_JSON_BYTES} bytes.")
    try:
        content = path.read_bytes()
        # Before it is parsed: what becomes of 16 MB of brackets is half a gigabyte.
        if sum(map(content.count, _MARKS)) > MOST_VALUES:
            raise CheckpointRejected("json_invalid", f"{name} has more than {MOST_VALUES} values.")
        return json.loads(content)
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointRejected("json_invalid", f"{name} cannot be read as JSON.") from error


def _checked(content: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Every object in it, from the outside to the inside."""
    level = [content]
    for _ in range(MOST_DEPTH):
        objects = [value for value in level if isinstance(value, dict)]
        yield from objects
        for value in chain(level, *(each.keys() for each in objects)):
            if isinstance(value, str):
                _require_text(value, name)
        lists = (value for value in level if isinstance(value, list))
        level = [*chain.from_iterable(lists), *chain.from_iterable(each.values() for each in objects)]
        if not level:
            return
    raise CheckpointRejected("json_invalid", f"{name} is nested deeper than {MOST_DEPTH} levels.")


def _require_text(value: str, name: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CheckpointRejected("json_invalid", f"{name} has text that is not Unicode.") from None
