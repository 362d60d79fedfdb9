"""A process with limits of its own, forked from a server that has loaded what it needs."""

import multiprocessing
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import orjson

from app.errors import JobCrashed

T = TypeVar("T")

_CONTEXT: Final = multiprocessing.get_context("forkserver")
# What the server loads once, for seconds and some 300 MB: a process that it forks shares that.
_CONTEXT.set_forkserver_preload(["workers.confined.programs", "transformers.models.llama.modeling_llama"])
_DATA: Final = re.compile(r"VmData:\s+(\d+) kB")
# How processes end that were refused memory, beside those that could say it.
_OUT_OF_MEMORY: Final = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL})
_MEMORY_ERROR: Final = 86  # an exit status that nothing else uses


class LimitReached(Exception):
    """A confined process was ended at its limit of memory or of time."""

    def __init__(self, of: Literal["memory", "time"]) -> None:
        super().__init__(of)
        self.of = of


@dataclass(frozen=True)
class Limits:
    """What a confined process may take.

    Attributes:
        memory_bytes: beyond what it has when it begins.
        cpu_seconds: of processor time; as much again whenever it is allowed more.
    """

    memory_bytes: int
    cpu_seconds: int


class Channel:
    """The confined side: what it is asked, and what it answers. Answers are JSON, so that they are only data."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits

    def allow(self, cpu_seconds: int | None = None) -> None:
        """Begin to count processor time anew."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(usage.ru_utime + usage.ru_stime) + (cpu_seconds or self._limits.cpu_seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))

    def say(self, fact: Any) -> None:
        """Send a fact."""
        self._connection.send_bytes(orjson.dumps(fact))

    def send(self, numbers: memoryview | bytes) -> None:
        """Send bytes."""
        self._connection.send_bytes(numbers)

    def asked(self) -> Any:
        """Wait for the next question.

        Raises:
            EOFError: nobody will ask any more.
        """
        return self._connection.recv()


class ConfinedProcess:
    """A process that runs a program, as its parent sees it. It ends with the context, however that ends.

    Args:
        program: a function at the top of a module. What it returns is said last.
        limits: what it may take.
        argument: of the program, after its channel.
    """

    def __init__(self, program: Callable[[Channel, T], Any], limits: Limits, argument: T) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_run, args=(program, limits, theirs, argument), name=program.__name__, daemon=True
        )
        try:
            self._process.start()
        finally:
            theirs.close()

    def __enter__(self) -> Self:
        """The process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def close(self) -> None:
        """End the process, at whatever it is."""
        self._connection.close()
        self._process.kill()
        self._process.join()

    def ask(self, question: Any) -> None:
        """Send a question.

        Raises:
            LimitReached, JobCrashed: see `answer`.
        """
        try:
            self._connection.send(question)
        except OSError:
            raise self._end() from None

    def answer(self, silent_seconds: float, on_wait: Callable[[], object] = lambda: None) -> bytes:
        """The next message.

        Args:
            silent_seconds: how long it may say nothing; beyond that it is killed.
            on_wait: called each second; may raise to stop.

        Raises:
            LimitReached: the process took too much memory or time.
            JobCrashed: it ended otherwise, as when it was killed.
        """
        deadline = time.monotonic() + silent_seconds
        try:
            while not self._connection.poll(1.0):
                on_wait()
                if time.monotonic() > deadline:
                    raise LimitReached("time")
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._end() from None

    def _end(self) -> LimitReached | JobCrashed:
        """What it means that the process is gone."""
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        if -code == signal.SIGXCPU:
            return LimitReached("time")
        if -code in _OUT_OF_MEMORY or code == _MEMORY_ERROR:
            return LimitReached("memory")
        return JobCrashed("A process that the worker had started was killed.")


def start_server() -> None:
    """Start the server from which confined processes are forked. It ends with this process."""
    forkserver.ensure_running()


def _run(program: Callable[[Channel, T], Any], limits: Limits, connection: Connection, argument: T) -> None:
    """What a confined process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    # What fails says so by its end: a traceback would quote files.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.environ.clear()  # it holds secrets that nothing here needs
    channel = Channel(connection, limits)
    channel.allow()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + limits.memory_bytes,) * 2)
    try:
        channel.say(program(channel, argument))
    except MemoryError:
        os._exit(_MEMORY_ERROR)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent is gone


def _data_bytes() -> int:
    found = _DATA.search(Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
