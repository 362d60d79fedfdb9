"""Words that stand in no text but those that a test submits, and whatever may hold them."""

import base64
import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis

# What every word begins with, so that one look finds any of them.
STEM: Final = "qzvxjwkqpzgfhx"
_CONSONANTS: Final = "bcdfghjklmnpqrstvwxz"
_LEAST_BYTES: Final = 8


def word(role: str) -> str:
    """A word that nobody writes by chance, another for each role."""
    digest = hashlib.sha256(role.encode()).digest()
    return STEM + "".join(_CONSONANTS[byte % len(_CONSONANTS)] for byte in digest[:12])


def forms(text: str) -> dict[str, bytes]:
    """What a text may look like in a file: each form in which it was seen somewhere.

    Base64 has a form for each place where the text may begin among three bytes; the ends, which depend on
    what stands beside it, are left out.
    """
    raw = text.encode()
    escaped = json.dumps(text)[1:-1].encode()
    found = {
        "as it is": raw,
        "escaped in JSON": escaped,
        "escaped twice": json.dumps(escaped.decode())[1:-1].encode(),
        "in an address": quote(text).encode(),
        "UTF-16": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32-le"),
        "hexadecimal": raw.hex().encode(),
    }
    for shift in range(3):
        found[f"base64 after {shift}"] = base64.b64encode(raw[(3 - shift) % 3 :])[:-4]
    return found


def token_forms(ids: Sequence[int]) -> dict[str, bytes]:
    """The ids of a text's tokens as files may hold them."""
    packed = {
        f"ids of {size} bytes": struct.pack(f"<{len(ids)}{code}", *ids) for size, code in ((4, "i"), (8, "q"))
    }
    listed = {"ids in JSON": json.dumps(list(ids)).encode(), "ids": ",".join(map(str, ids)).encode()}
    return packed | {"ids in hexadecimal": packed["ids of 4 bytes"].hex().encode()} | listed


def files_below(*directories: Path) -> Iterator[tuple[str, bytes]]:
    """Each file in directories with what it holds; one that goes away meanwhile is left out."""
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                try:
                    yield str(path), path.read_bytes()
                except FileNotFoundError:
                    continue


def open_files(pid: int) -> Iterator[tuple[str, bytes]]:
    """What a process has open of files without a name."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = link.readlink()
            if str(target).endswith("(deleted)"):
                yield f"{link} -> {target}", link.read_bytes()
        except OSError:
            continue


def redis_content(client: "redis.Redis") -> Iterator[tuple[str, bytes]]:
    """Every key of all databases with what it holds."""
    for number in client.info("keyspace"):
        client.select(int(number.removeprefix("db")))  # type: ignore[attr-defined]
        for key in client.scan_iter():
            yield f"redis {key!r}", key + b" " + repr(client.dump(key)).encode()


def search(places: Iterable[tuple[str, bytes]], wanted: Mapping[str, bytes]) -> list[str]:
    """Where something wanted is, in which form, and what it begins with."""
    assert all(len(needle) >= _LEAST_BYTES for needle in wanted.values())
    found = []
    for name, content in places:
        for form, needle in wanted.items():
            at = content.find(needle)
            if at >= 0:
                found.append(f"{name} ({form}): {content[at : at + 40]!r}")
    return found
