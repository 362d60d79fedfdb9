"""Model directories as an attacker would register them: each is an honest one with something changed."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

CANARY: Final = "CANARY-5e0f"
# Neither what a file says nor what a library raised may be in an answer.
NEVER_SAID: Final = (CANARY, "Error", "Exception", "Traceback", "secret", "site-packages")


@dataclass(frozen=True)
class Place:
    """A directory to be made hostile, one outside the roots, and a file that code in it would make."""

    directory: Path
    outside: Path
    executed: Path

    def __truediv__(self, name: str) -> Path:
        return self.directory / name


Spoil = Callable[[Place], object]


def make_hostile(honest: Path, directory: Path, outside: Path, spoil: Spoil) -> Path:
    """A copy of an honest directory, spoiled. Code in it would make the file `executed` outside."""
    shutil.copytree(honest, directory)
    outside.mkdir(parents=True)
    spoil(Place(directory, outside, outside / "executed"))
    return directory


def _json(name: str, **changes: Any) -> Spoil:
    def spoil(place: Place) -> None:
        content = json.loads((place / name).read_text()) | changes
        (place / name).write_text(json.dumps(content))

    return spoil


def _config(**changes: Any) -> Spoil:
    return _json("config.json", **changes)


def _text(name: str, text: str) -> Spoil:
    return lambda place: (place / name).write_text(text)


def _code(name: str, **changes: Any) -> Spoil:
    """Python beside the files, and a setting that names it."""

    def spoil(place: Place) -> None:
        (place / "mine.py").write_text(f"open({str(place.executed)!r}, 'w').close()\nclass Mine: ...\n")
        _json(name, **changes)(place)

    return spoil


class _Bomb:
    def __init__(self, executed: Path) -> None:
        self.executed = executed

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.executed}",)


def _pickled(place: Place) -> None:
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(place.executed)))


def _pickled_as_safetensors(place: Place) -> None:
    (place / "model.safetensors").write_bytes(pickle.dumps(_Bomb(place.executed)))


def _archive(place: Place) -> None:
    weights = (place / "model.safetensors").read_bytes()
    with zipfile.ZipFile(place / "model.safetensors", "w") as archive:
        archive.writestr("model.safetensors", weights)


def _linked_outside(name: str) -> Spoil:
    def spoil(place: Place) -> None:
        shutil.move(place / name, place.outside / name)
        (place / name).symlink_to(place.outside / name)

    return spoil


def _in_place_of(name: str, make: Callable[[Path], object]) -> Spoil:
    def spoil(place: Place) -> None:
        (place / name).unlink()
        make(place / name)

    return spoil


def _shard(name: str) -> Spoil:
    """An index that names a file so."""

    def spoil(place: Place) -> None:
        (place / "model.safetensors").rename(place.outside / "model.safetensors")
        up = os.path.relpath(place.outside, place.directory)
        index = {"weight_map": {"lm_head.weight": name.format(outside=place.outside, up=up)}}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def _raw_header(header: bytes, data: bytes = b"") -> Spoil:
    return lambda place: (place / "model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + data
    )


def _header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """The header changed, the tensors' bytes as they were."""

    def spoil(place: Place) -> None:
        content = (place / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        _raw_header(json.dumps(header).encode(), content[8 + length :])(place)

    return spoil


def _entry(**changes: Any) -> Spoil:
    """The description of one tensor changed."""
    return _header(lambda header: header["model.norm.weight"].update(changes))


def _terabyte(place: Place) -> None:
    """A model as its configuration has it, of 1.03e12 bytes that are all zero and take no room on a disk."""
    _config(hidden_size=2**14, intermediate_size=2**16, num_hidden_layers=32, head_dim=2**12)(place)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(place.directory))
    header, end = {}, 0
    for name, parameter in model.named_parameters():
        offsets = [end, end := end + 8 * parameter.numel()]
        header[name] = {"dtype": "F64", "shape": list(parameter.shape), "data_offsets": offsets}
    _raw_header(json.dumps(header).encode())(place)
    size = (place / "model.safetensors").stat().st_size
    os.truncate(place / "model.safetensors", size + end)


def _many_shards(place: Place) -> None:
    """A model in a file, and 999 files of a tensor that it does not take."""
    names = [f"model-{number:05}.safetensors" for number in range(1000)]
    (place / "model.safetensors").rename(place / names[0])
    weight_map = dict.fromkeys(load_file(place / names[0]), names[0]) | {name: name for name in names[1:]}
    for name in names[1:]:
        save_file({name: torch.zeros(1)}, place / name)
    index = {"metadata": {}, "weight_map": weight_map}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def _long_header(place: Place) -> None:
    length = 89 * 10**6
    with (place / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", length) + b'{"a":')
        file.truncate(8 + length)


def _empty_tensors(count: int) -> Spoil:
    entry = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'

    def spoil(place: Place) -> None:
        entries = ",".join(entry.format(number) for number in range(count))
        _raw_header(f"{{{entries}}}".encode())(place)

    return spoil


def _left_over(count: int) -> Spoil:
    """So many tensors of one number more, which the model does not take."""

    def add(header: dict[str, Any]) -> None:
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        for number in range(count):
            offsets = [end + 4 * number, end + 4 * number + 4]
            header[str(number)] = {"dtype": "F32", "shape": [1], "data_offsets": offsets}

    def spoil(place: Place) -> None:
        with (place / "model.safetensors").open("ab") as file:
            file.write(bytes(4 * count))
        _header(add)(place)

    return spoil


def _shape_zero(place: Place) -> None:
    tensors = load_file(place / "model.safetensors")
    save_file({name: tensor[:0] for name, tensor in tensors.items()}, place / "model.safetensors")


def _weights(
    change: Callable[[dict[str, torch.Tensor]], object], dtype: torch.dtype = torch.float32
) -> Spoil:
    def spoil(place: Place) -> None:
        tensors = {name: each.to(dtype) for name, each in load_file(place / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})

    return spoil


def _row(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors["lm_head.weight"][7].fill_(value)


def _tokenizer(**changes: Any) -> Spoil:
    return _json("tokenizer.json", **changes)


def _vocabulary_elsewhere(**names: str) -> Spoil:
    """A setting that classes of tokenizers take for an argument and open: here with files outside."""

    def spoil(place: Place) -> None:
        vocabulary = json.loads((place / "tokenizer.json").read_text())["model"]["vocab"]
        (place.outside / "vocab.json").write_text(json.dumps(vocabulary))
        (place.outside / "merges.txt").write_text("#version: 0.2\n")
        (place / "tokenizer.json").rename(place / "vocab.json")
        settings = {name: str(place.outside / file) for name, file in names.items()}
        _json("tokenizer_config.json", tokenizer_class="GPT2Tokenizer", **settings)(place)

    return spoil


def _vast_tokenizer(place: Place) -> None:
    """An expression without end, and files that would be reason for more time and memory."""
    _tokenizer(pre_tokenizer=never_ending("a"))(place)
    for name in ("vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "merges.txt"):
        with (place / name).open("wb") as file:
            file.truncate(60 * 2**20)


def _vast_index(place: Place) -> None:
    (place / "model.safetensors").unlink()
    (place / "model.safetensors.index.json").write_bytes(b'{"weight_map":[' + b"{}," * 5_000_000 + b"{}]}")


def _many_files(place: Place) -> None:
    for number in range(10_001):
        (place / f"{number}.txt").touch()


# At each place of a long word, an expression that can match in a million ways before it fails.
def never_ending(letter: str) -> dict[str, Any]:
    """What splits texts before they are tokenized, and never ends at a long word of this letter."""
    expression = f"{letter}{{0,1500}}{letter}{{0,1500}}(?<!{letter})"
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


_GROWING: Final = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 3,
}
_BYTE: Final = b'{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
_SHARED: Final = {"model_type": "llama", "hidden_size": 32}

# Every directory is to be rejected; the names are for people.
HOSTILE: Final[dict[str, Spoil]] = {
    "a million layers": _config(num_hidden_layers=10**6),
    "more layers than tensors": _config(num_hidden_layers=1000),
    "a hidden size of a million": _config(hidden_size=10**6),
    "another hidden size": _config(hidden_size=64),
    "a vocabulary of 1e12": _config(vocab_size=10**12),
    "a vocabulary of another size": _config(vocab_size=385),
    "no heads": _config(num_attention_heads=0),
    "a head dimension of -8": _config(head_dim=-8),
    "sizes that are words": _config(hidden_size="wide", num_hidden_layers=True),
    "a context of 0": _config(max_position_embeddings=0),
    "a context of 1": _config(max_position_embeddings=1),
    "a context of -7": _config(max_position_embeddings=-7),
    "a context of 1e12": _config(max_position_embeddings=10**12),
    "another attention": _config(attn_implementation="flash_attention_2"),
    "another attention, privately": _config(_attn_implementation="flash_attention_2"),
    "another attention, nested": _config(text_config={"_attn_implementation_internal": "flex_attention"}),
    "quantized by its settings": _config(quantization_config={"quant_method": "bitsandbytes"}),
    "weights of another name": _config(transformers_weights="../other/model.safetensors"),
    "fused by its settings": _config(fusion_config={"patch_embeddings": True}),
    "code": _code("config.json", auto_map={"AutoModelForCausalLM": "mine.Mine"}),
    "code, nested": _code("config.json", text_config={"deep": [{"auto_map": {"AutoConfig": "mine.Mine"}}]}),
    "code of a tokenizer": _code("tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Mine", None]}),
    "code that generates": _code("generation_config.json", custom_generate="mine"),
    "a text config that is text": _config(text_config="secret"),
    "a text config in a list": _config(text_config=[[_SHARED]]),
    "a method that is text": _config(get_text_config="secret", to_dict="secret"),
    "an activation that is none": _config(hidden_act="__import__"),
    "a number format that is a module": _config(dtype="hub", torch_dtype="hub"),
    "positions that are none": _config(rope_parameters={"rope_type": "secret", "rope_theta": "x"}),
    "a large config": _config(padding=CANARY * 200_000),
    "a deep config": _text("config.json", '{"model_type": "llama", "a": ' + "[" * 500 + "]" * 500 + "}"),
    "a config nested without end": _text("config.json", '{"a":' * 100_000),
    "a config with half a character": _text("config.json", '{"model_type": "llama", "a": "\\ud800"}'),
    "weights linked outside": _linked_outside("model.safetensors"),
    "a tokenizer linked outside": _linked_outside("tokenizer.json"),
    "a config linked outside": _linked_outside("config.json"),
    "a config that is a pipe": _in_place_of("config.json", os.mkfifo),
    "weights that are a pipe": _in_place_of("model.safetensors", os.mkfifo),
    "weights that never end": _in_place_of("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "an index of 5 million objects": _vast_index,
    "weights that are a directory": _in_place_of("model.safetensors", Path.mkdir),
    "weights that lead to themselves": _in_place_of(
        "model.safetensors", lambda path: path.symlink_to(path.name)
    ),
    "ten thousand files": _many_files,
    "a thousand shards": _many_shards,
    "a terabyte of zeros": _terabyte,
    "a shard named with NUL": _shard("model\0.safetensors"),
    "a shard named with half a character": _shard("model\ud800.safetensors"),
    "a shard elsewhere": _shard("{outside}/model.safetensors"),
    "a shard further up": _shard("{up}/model.safetensors"),
    "a shard of a long name": _shard("m" * 5000 + ".safetensors"),
    "pickled weights": _pickled,
    "pickled weights by another name": _pickled_as_safetensors,
    "weights in an archive": _archive,
    "a header of 89 MB": _long_header,
    "a header of 2^63 bytes": lambda place: (place / "model.safetensors").write_bytes(
        b"\xff" * 7 + b"\x7f{}"
    ),
    "1.3 million empty tensors": _empty_tensors(1_300_000),
    "100 thousand empty tensors": _empty_tensors(100_000),
    "95 thousand tensors left over": _left_over(95_000),
    "tensors of shape zero": _shape_zero,
    "no tensors": _raw_header(b"{}"),
    "a tensor twice": _raw_header(b'{"a":' + _BYTE + b',"a":' + _BYTE + b"}", b"\0"),
    "overlapping tensors": _header(
        lambda header: header.update({"b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    ),
    "a hole between tensors": _header(lambda header: header.pop("model.norm.weight")),
    "bytes after the file": _entry(data_offsets=[2**40, 2**40 + 128]),
    "bytes before the file": _entry(data_offsets=[-128, 0]),
    "another shape than bytes": _entry(shape=[10**6]),
    "a shape that is not whole": _entry(shape=[32.0]),
    "a number format that is none": _entry(dtype=CANARY),
    "metadata that are no text": _header(lambda header: header.update(__metadata__={"a": [1]})),
    "a missing tensor": _weights(lambda tensors: tensors.pop("model.norm.weight")),
    "weights of 1e38": _weights(_row(1e38)),
    "weights of -1e38 in bfloat16": _weights(_row(-1e38), torch.bfloat16),
    "an infinite weight": _weights(_row(float("inf")), torch.float16),
    "weights that are NaN": _weights(_row(float("nan"))),
    "8-bit weights": _weights(lambda _: None, torch.int8),
    "an expression without end": _tokenizer(pre_tokenizer=never_ending("a")),
    "an expression that fails": _tokenizer(
        pre_tokenizer=never_ending("a") | {"pattern": {"Regex": "^(a|a)*$"}}
    ),
    "a normalizer that multiplies": _tokenizer(normalizer=_GROWING),
    "a tokenizer that is no JSON": _text("tokenizer.json", CANARY),
    "a tokenizer of 300 MB": _vast_tokenizer,
    "a vocabulary elsewhere": _vocabulary_elsewhere(vocab="vocab.json", merges="merges.txt"),
    "a file of another kind elsewhere": _vocabulary_elsewhere(gguf_file="vocab.json"),
    "a tokenizer elsewhere": _json(
        "tokenizer_config.json", fast_tokenizer_files=["tokenizer./../../outside/x.json"]
    ),
}
