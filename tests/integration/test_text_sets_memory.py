"""A large upload to a real server process: its memory stays flat, in every format."""

import csv
import io
import itertools
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live_service import LiveService, until

log = logging.getLogger(__name__)

MEBIBYTE = 2**20
# What a process may grow by: a batch of texts, a buffer of the body, a page of the allocator each. Mostly it
# is about 3 MiB; on a busy machine other threads may take part, each with memory of its own (32 were seen).
MAX_GROWTH = 64 * MEBIBYTE
TEXT = "All that is gold does not glitter, not all those who wander are lost. " * 30
JSONL = "application/jsonl"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def service(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[LiveService]:
    with LiveService(tmp_path, database_url=database_url, broker_url=broker_url, model_roots=[]) as service:
        yield service


class PeakMemory:
    """The most resident memory a process has while the block runs, sampled every few milliseconds."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.peak = process.memory_info().rss

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.peak - self.before


def api_process(service: LiveService) -> psutil.Process:
    assert service.api.process is not None
    process = psutil.Process(service.api.process.pid)
    assert process.children() == []
    return process


def rows(count: int) -> Iterator[str]:
    return (f"{TEXT}{number}" for number in range(count))


def json_lines(count: int) -> Iterator[bytes]:
    texts = rows(count)
    while some := list(itertools.islice(texts, 100)):
        yield b"".join(json.dumps({"text": text}).encode() + b"\n" for text in some)


def csv_lines(count: int) -> Iterator[bytes]:
    yield b"text\n"
    texts = rows(count)
    while some := list(itertools.islice(texts, 100)):
        output = io.StringIO(newline="")
        csv.writer(output).writerows([text] for text in some)
        yield output.getvalue().encode()


def parquet_file(count: int, path: Path) -> Iterator[bytes]:
    """One row group, stored without compression: the least friendly of the usual files."""
    pq.write_table(pa.table({"text": list(rows(count))}), path, compression="none", use_dictionary=False)
    with path.open("rb") as file:
        while chunk := file.read(MEBIBYTE):
            yield chunk


def body(media_type: str, count: int, tmp_path: Path) -> Iterator[bytes]:
    if media_type == PARQUET:
        return parquet_file(count, tmp_path / "texts.parquet")
    return {JSONL: json_lines, CSV: csv_lines}[media_type](count)


def upload(service: LiveService, media_type: str, content: Iterator[bytes]) -> httpx.Response:
    return service.client.post(
        "/v1/text-sets",
        params={"name": "large"},
        content=content,
        headers={"Content-Type": media_type},
        timeout=600,
    )


def assert_flat(service: LiveService, media_type: str, size: int, tmp_path: Path) -> None:
    count = size // len(TEXT) + 1
    # What a first upload loads and caches belongs to every later one.
    assert upload(service, media_type, body(media_type, 2000, tmp_path)).status_code == 201
    with PeakMemory(api_process(service)) as memory:
        response = upload(service, media_type, body(media_type, count, tmp_path))
    assert response.status_code == 201, response.text
    assert response.json()["text_count"] == count
    assert response.json()["byte_count"] > size
    log.info("%s: %d MiB in, grew by %.1f MiB", media_type, size / MEBIBYTE, memory.growth / MEBIBYTE)
    assert memory.growth < MAX_GROWTH


def test_memory_stays_flat(service: LiveService, tmp_path: Path) -> None:
    for media_type in (JSONL, CSV, PARQUET):
        assert_flat(service, media_type, 200 * MEBIBYTE, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_memory_stays_flat_with_a_gigabyte(service: LiveService, tmp_path: Path) -> None:
    for media_type in (JSONL, CSV, PARQUET):
        assert_flat(service, media_type, 1024 * MEBIBYTE, tmp_path)


def test_an_upload_broken_off_leaves_nothing(service: LiveService, database_url: str) -> None:
    address = urlsplit(service.url)
    head = (
        "POST /v1/text-sets?name=half HTTP/1.1\r\nHost: memaudit\r\n"
        f"Authorization: Bearer {service.key}\r\nContent-Type: {JSONL}\r\nContent-Length: 100000000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head.encode() + b"".join(json_lines(2000)))
    until(lambda: '"status": 400' in service.logs(), "the broken upload is answered")
    assert "unexpected_error" not in service.logs()
    with psycopg.connect(database_url) as database:
        assert database.execute("SELECT count(*) FROM texts").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM text_sets").fetchone() == (0,)
