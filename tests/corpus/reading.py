"""The corpus of bad input: requests kept as data, and the bytes that each is sent as.

Every file beside this one holds the cases of a subject, in this form:

    name      what is wrong
    send      the request line: method and target; `<model_id>` stands for an id of the world
    as        whose key is sent (`writer` unless given, `nobody` for none)
    headers   in place of those that are sent anyway, or beside them; null for none, a list for several
    body      the body: text as it is, anything else as JSON
    valid     JSON pointers into the valid body of the route with what is put there instead
    literal   the same, with what is put there as it stands in the JSON
    made      a body that is made by a function below, with its arguments
    status    of the answer
    type      of the problem, where the answer is one (the last part of its URI)
    errors    `pointer code` of each field that is named
    secret    what must not be repeated: the canary unless given. It is part of what is sent.
"""

import base64
import gzip
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

CANARY: Final = "canary-7f3a9"
HERE: Final = Path(__file__).parent
_PLACE: Final = re.compile(r"<([a-z_]+)>")
_LITERAL: Final = "literal-"


@dataclass(frozen=True)
class BadCase:
    """One bad request and what has to become of it."""

    subject: str
    name: str
    send: str
    status: int
    sender: str = "writer"
    headers: Mapping[str, Any] | None = None
    body: Any = None
    valid: Mapping[str, Any] | None = None
    literal: Mapping[str, str] | None = None
    made: list[Any] | None = None
    type: str | None = None
    errors: list[str] | None = None
    secret: str = CANARY

    @property
    def method(self) -> str:
        return self.send.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.send.partition(" ")[2]

    def content(self, valid_body: Any) -> bytes | None:
        """The body, before ids are put into it."""
        if self.made is not None:
            by, *arguments = self.made
            return MAKERS[by](*arguments)
        if self.valid is not None or self.literal is not None:
            return _changed(valid_body, self.valid or {}, self.literal or {})
        if self.body is None:
            return None
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()

    def message(self, *, host: str, key: str | None, ids: Mapping[str, str], valid_body: Any) -> bytes:
        """The whole request as it goes over the wire."""
        content = self.content(valid_body)
        headers: dict[str, Any] = {"Host": host, "Connection": "close"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if self.method in {"POST", "PATCH"}:
            headers["Idempotency-Key"] = uuid4().hex
        if content is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": None}
        headers |= self.headers or {}
        content = _with_ids(content, ids)
        if content is not None and "Content-Length" not in (self.headers or {}):
            headers["Content-Length"] = str(len(content))
        lines = [f"{self.method} {_with_ids(self.target.encode(), ids).decode()} HTTP/1.1".encode()]
        for name, value in headers.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{name}: {each}".encode("latin-1") for each in values if each is not None]
        return b"\r\n".join(lines) + b"\r\n\r\n" + (content or b"")


def read_corpus() -> list[BadCase]:
    """All cases, by subject."""
    return [
        BadCase(path.stem, sender=case.pop("as", "writer"), **case)
        for path in sorted(HERE.glob("*.json"))
        for case in json.loads(path.read_text())
    ]


def _with_ids(content: Any, ids: Mapping[str, str]) -> Any:
    if content is None:
        return None
    places = re.compile(_PLACE.pattern.encode())
    return places.sub(lambda place: ids.get(place[1].decode(), place[0].decode()).encode(), content)


def _changed(body: Any, values: Mapping[str, Any], literals: Mapping[str, str]) -> bytes:
    body = json.loads(json.dumps(body))
    for pointer, value in (values | {pointer: _LITERAL + pointer for pointer in literals}).items():
        *parents, last = pointer.removeprefix("/").split("/")
        parent = body
        for step in parents:
            parent = parent[int(step)] if isinstance(parent, list) else parent[step]
        parent[int(last) if isinstance(parent, list) else last] = value
    text = json.dumps(body)
    for pointer, literal in literals.items():
        text = text.replace(json.dumps(_LITERAL + pointer), literal)
    return text.encode()


def _parquet(columns: dict[str, Any], codec: str = "zstd") -> bytes:
    output = io.BytesIO()
    pq.write_table(pa.table(columns), output, compression=codec)
    return output.getvalue()


def _parquet_bomb(characters: int) -> bytes:
    """A few hundred bytes that hold one text of so many characters."""
    return _parquet({"text": [CANARY + "a" * characters]})


def _parquet_cut(kept: int) -> bytes:
    return _parquet({"text": [CANARY] * 100})[:kept]


def _parquet_of(columns: dict[str, Any]) -> bytes:
    return _parquet(columns)


def _parquet_with_footer(length: int) -> bytes:
    """A file whose footer claims a length."""
    return b"PAR1" + CANARY.encode() + length.to_bytes(4, "little") + b"PAR1"


def _nested(opening: str, closing: str, depth: int, inside: str) -> bytes:
    return (opening * depth + inside + closing * depth).encode()


def _repeated(before: str, part: str, times: int, after: str) -> bytes:
    return (before + part * times + after).encode()


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


def _gzipped(text: str) -> bytes:
    return gzip.compress(text.encode())


MAKERS: Final[Mapping[str, Callable[..., bytes]]] = {
    "base64": base64.b64decode,
    "encoded": _encoded,
    "gzipped": _gzipped,
    "nested": _nested,
    "repeated": _repeated,
    "parquet": _parquet_of,
    "parquet bomb": _parquet_bomb,
    "parquet cut": _parquet_cut,
    "parquet with footer": _parquet_with_footer,
}
