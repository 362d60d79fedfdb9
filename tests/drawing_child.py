"""A child as the service has them, asked one call after the other without an event loop."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from app.rendering import child

RunApart = Callable[..., bytes]


@contextmanager
def drawing_child() -> Iterator[RunApart]:
    """What runs a function in the child."""
    process = subprocess.Popen(
        [sys.executable, "-m", child.__name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def run_apart(function: Callable[..., bytes], *arguments: Any) -> bytes:
        call = pickle.dumps((function, arguments))
        questions.write(child.LENGTH.pack(len(call)) + call)
        questions.flush()
        done, length = child.ANSWER.unpack(answers.read(child.ANSWER.size))
        answer = answers.read(length)
        if not done:
            raise RuntimeError(answer.decode())
        return answer

    with process:
        yield run_apart


def times(seconds: float) -> bytes:
    """Sleeps; when that began and ended, and in which process."""
    began = time.monotonic()
    time.sleep(seconds)
    return orjson.dumps([began, time.monotonic(), os.getpid()])


def hang(_: Any = None) -> bytes:
    """Never ends, nor lets anything else run for long."""
    while True:
        sum(range(10**8))


def fail(message: str) -> bytes:
    raise ValueError(message)


def environment() -> bytes:
    return orjson.dumps(sorted(os.environ))
