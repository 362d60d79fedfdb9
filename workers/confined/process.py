"""A process with limits of its own, as its parent sees it.

Such processes are forked from a server that has loaded what they need. It is a program that this process
starts, not the server of `multiprocessing`: the library of Celery's pool takes the place of parts of that.
Processes that are forked from this one share it until it is killed; from then on each starts one for itself.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

import orjson

from app.errors import JobCrashed
from workers.confined.messages import Line, Silent

Program = Literal["inspect", "tokenize"]

SERVER: Final = "workers.confined.server"
# How long to wait for what takes no time: the server and the process are there.
_MOMENT_SECONDS: Final = 60.0
# With which a tokenizer goes through many texts.
_MOST_THREADS: Final = 8
# The exit status of a process that was refused memory, and how those end that cannot say so.
MEMORY_REFUSED: Final = 86
_OUT_OF_MEMORY: Final = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL})


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
    cpu_seconds: float


class ConfinedProcess:
    """A process that runs a program. It ends with the context, however that ends, and with this process.

    Args:
        program: one of `workers.confined.programs`. What it returns is said last.
        limits: what it may take.
        argument: of the program, after its channel.
    """

    def __init__(self, program: Program, limits: Limits, argument: str) -> None:
        ours, theirs = socket.socketpair()
        told, tells = socket.socketpair()
        with theirs, tells:
            request = orjson.dumps([program, asdict(limits), argument])
            _server.request(request, [theirs.fileno(), tells.fileno()])
        self._line, self._status = Line(ours), Line(told)
        # Who is forgotten without having been closed ends as well: nobody can ask it any more.
        weakref.finalize(self, close_all, ours, told)

    def __enter__(self) -> Self:
        """The process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def ask(self, question: Any) -> None:
        """Send a question.

        Raises:
            LimitReached, JobCrashed: see `answer`.
        """
        try:
            self._line.say(question, _MOMENT_SECONDS)
        except Silent:
            self.close()
            raise JobCrashed("A process that the worker had started was stopped.") from None
        except OSError:
            raise self._end() from None

    def answer(self, silent_seconds: float, on_wait: Callable[[], object] = lambda: None) -> bytes:
        """The next message.

        Args:
            silent_seconds: how long it may take to come; then the process is killed.
            on_wait: called each second; may raise to stop.

        Raises:
            LimitReached: the process took too much memory or time.
            JobCrashed: it ended otherwise, as when it was killed.
        """
        try:
            return self._line.receive(silent_seconds, on_wait)
        except Silent:
            self.close()
            raise LimitReached("time") from None
        except EOFError:
            raise self._end() from None

    def close(self) -> None:
        """End the process, whatever it is busy with: its server kills who is wanted by nobody."""
        self._line.close()
        self._status.hang_up()
        with suppress(EOFError, Silent, OSError):
            self._status.receive(_MOMENT_SECONDS)
        self._status.close()

    def _end(self) -> LimitReached | JobCrashed:
        """What it means that the process is gone."""
        try:
            code = int(self._status.receive(_MOMENT_SECONDS))
        except (EOFError, Silent):
            return JobCrashed("The server of the worker's confined processes was killed or had no room.")
        if -code == signal.SIGPROF:
            return LimitReached("time")
        if -code in _OUT_OF_MEMORY or code == MEMORY_REFUSED:
            return LimitReached("memory")
        return JobCrashed("A process that the worker had started was killed.")


def close_all(*connections: socket.socket) -> None:
    """Close connections."""
    for connection in connections:
        connection.close()


class _Server:
    """The server of this process, started when it is first needed and again should it be killed.

    Processes that are forked from this one go on asking the same server. Once that was killed each of them
    has one of its own; they share one again when this process has started another and then forks them anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner: int | None = None

    def start(self) -> None:
        with self._lock:
            self._started()

    def request(self, request: bytes, descriptors: list[int]) -> None:
        with self._lock:
            try:
                socket.send_fds(self._started(), [request], descriptors)
            except OSError:
                self.end()
                socket.send_fds(self._started(), [request], descriptors)

    def _started(self) -> socket.socket:
        if self._control is not None and not self._has_ended():
            return self._control
        self.end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # It needs where modules are, and none of the worker's settings: some are secrets.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", SERVER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                    "CUDA_VISIBLE_DEVICES": "",
                    "HF_HUB_OFFLINE": "1",
                    # The stacks of threads count as memory, of which a process has little on any machine.
                    "HF_DEACTIVATE_ASYNC_LOAD": "1",
                    "OMP_NUM_THREADS": "1",
                    "RAYON_NUM_THREADS": str(min(_MOST_THREADS, len(os.sched_getaffinity(0)))),
                },
                # Ctrl-C is for this process, with which the server ends; both stand back in one session.
                process_group=0,
            )
        self._control, self._owner = ours, os.getpid()
        return ours

    def end(self) -> None:
        """Ask it no more; end it, if it is this process' own and not that of one which it was forked from."""
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._process = self._control = None

    def _has_ended(self) -> bool:
        """Of the server of another process nothing is known until it is asked."""
        return self._owner == os.getpid() and self._process is not None and self._process.poll() is not None


_server: Final = _Server()
atexit.register(_server.end)


def start_server() -> None:
    """Start the server, which takes seconds until it is ready. It ends with this process."""
    _server.start()
