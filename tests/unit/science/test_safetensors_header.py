"""Our own reading of safetensors headers, against the library's and against bytes made by chance."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from workers.science.errors import CheckpointRejected
from workers.science.models.safetensors_header import MOST_HEADER_BYTES, StoredTensor, read_header

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I8": np.int8, "U16": np.uint16}
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
tensors = st.dictionaries(
    names.filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(DTYPES)), shapes),
    max_size=5,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers") / "model.safetensors"


def read(path: Path, content: bytes) -> list[StoredTensor]:
    path.write_bytes(content)
    with path.open("rb") as file:
        return read_header(file, path.name)


def written(held: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    return save({name: np.ones(shape, DTYPES[dtype]) for name, (dtype, shape) in held.items()})


@given(tensors)
def test_what_the_library_writes_is_read_as_the_library_reads_it(path, held):
    content = written(held)
    found = read(path, content)
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in found} == held
    expected = {name: bytes(fields["data"]) for name, fields in safetensors.deserialize(content)}
    assert {tensor.name: content[tensor.start : tensor.end] for tensor in found} == expected
    assert sum(tensor.size for tensor in found) == sum(
        np.prod(shape, dtype=int) for _, shape in held.values()
    )


@given(tensors, st.data())
def test_of_changed_bytes_nothing_is_taken_that_the_library_refuses(path, held, data):
    content = bytearray(written(held))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(path, bytes(content))
    except CheckpointRejected:
        return
    assert len(found) == len(safetensors.deserialize(bytes(content)))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(path, content):
    with pytest.raises(CheckpointRejected):
        read(path, struct.pack("<Q", len(content)) + b"{" + content)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def header(content: Any, data: bytes = b"\0" * 8) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_a_header_may_end_in_spaces(path):
    text = json.dumps({"a": tensor()}).encode() + b"  "
    assert [held.name for held in read(path, header(text))] == ["a"]


REFUSED = {
    "a file of seven bytes": (b"\0" * 7, "shorter than the length"),
    "a header beyond the file": (struct.pack("<Q", 100) + b"{}", "ends after the file"),
    "a long header": (struct.pack("<Q", MOST_HEADER_BYTES + 1) + bytes(MOST_HEADER_BYTES + 1), "longer than"),
    "a list": (header([]), "not a JSON object"),
    "no UTF-8": (header(b'{"\xff":1}'), "cannot be read as JSON"),
    "half a character": (header({"\ud800": tensor()}), "name is too long or is no text"),
    "NUL in a name": (header({"a\0": tensor()}), "name is too long or is no text"),
    "no name": (header({"": tensor()}), "name is too long or is no text"),
    "a long name": (header({"a" * 1001: tensor()}), "name is too long or is no text"),
    "a number": (header({"a": 1}), "not described by"),
    "something more": (header({"a": tensor(more=1)}), "not described by"),
    "something missing": (header({"a": {"dtype": "F32", "shape": [2]}}), "not described by"),
    "a name twice": (header(b'{"a":1,"a":1}'), "says something twice"),
    "a shape twice": (header(b'{"a":{"shape":[],"shape":[]}}'), "says something twice"),
    "an unknown format": (header({"a": tensor(dtype="F31")}), "number format"),
    "a format that is a list": (header({"a": tensor(dtype=[])}), "number format"),
    "a shape of true": (header({"a": tensor(shape=[True, 2])}), "shape"),
    "a shape below zero": (header({"a": tensor(shape=[-2])}), "shape"),
    "a shape of 17 dimensions": (header({"a": tensor(shape=[2] + [1] * 16)}), "shape"),
    "a fraction": (header({"a": tensor(shape=[2.0])}), "not whole"),
    "NaN": (header(b'{"a":NaN}'), "not whole"),
    "three offsets": (header({"a": tensor(data_offsets=[0, 4, 8])}), "data_offsets"),
    "offsets the wrong way": (header({"a": tensor(data_offsets=[8, 0])}), "more or fewer bytes"),
    "a shape of more bytes": (header({"a": tensor(shape=[3])}), "more or fewer bytes"),
    "a shape beyond 64 bits": (header({"a": tensor(shape=[2**62, 2**62])}), "more or fewer bytes"),
    "an overlap": (header({"a": tensor(), "b": tensor()}), "overlap or leave holes"),
    "a hole": (header({"a": tensor(data_offsets=[4, 12])}, b"\0" * 12), "overlap or leave holes"),
    "bytes left over": (header({"a": tensor()}, b"\0" * 9), "more or fewer bytes than the file"),
    "bytes missing": (header({"a": tensor()}, b"\0" * 7), "more or fewer bytes than the file"),
    "metadata of numbers": (header({"__metadata__": {"a": 1}, "b": tensor()}), "metadata"),
    "metadata that are none": (header({"__metadata__": [], "b": tensor()}), "metadata"),
    "objects without number": (header(b'{"a":[' + b"{}," * 300_000 + b"{}]}"), "more than 100000 tensors"),
    "lists without number": (header(b'{"a":[' + b"[]," * 400_000 + b"[]]}"), "more than 100000 tensors"),
    "depth": (header(b'{"a":' * 100_000), "cannot be read as JSON"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_no_header_may_say_is_refused_by_its_reason(path, content, reason):
    with pytest.raises(CheckpointRejected, match=reason) as rejected:
        read(path, content)
    assert rejected.value.code == "weights_unreadable"


class Counting(io.BufferedReader):
    """Remembers how much was asked for at once."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:
        self.most = max(self.most, size or 0)
        return super().read(size)


def test_none_of_the_tensors_bytes_are_read(path):
    text = json.dumps({"a": tensor()}).encode()
    path.write_bytes(header(text))
    with Counting(path.open("rb", buffering=0)) as file:
        read_header(file, path.name)
        assert file.most == len(text)
        assert file.tell() == 8 + len(text)
