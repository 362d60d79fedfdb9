"""Child processes that never outlive us, and their bounded end."""

import ctypes
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from app.embedded.layout import Account

_PR_SET_PDEATHSIG = 1
# How far the session of whoever writes to it stands back; a kernel that does not share by session has none.
_SESSION_NICENESS = "/proc/self/autogroup"
# Until a process that was killed is gone: it may have much memory to give back.
_KILLED_SECONDS = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


def _prepare(parent: int, death_signal: signal.Signals, niceness: int) -> None:
    """Ask the kernel for `death_signal` when the thread that forked us ends, and to let others go first.

    Runs between fork and exec.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)
    if niceness:
        _stand_back(niceness)


def _stand_back(niceness: int) -> None:
    """Let others go first: those of our session, and, where processors are shared by session, all others.

    There niceness counts within a session only (sched(7), "The autogroup feature"): beside another one with
    as much to do, the nicest process of a session of its own gets half of a processor.
    """
    os.nice(niceness)
    with suppress(OSError):
        session = os.open(_SESSION_NICENESS, os.O_WRONLY)
        os.write(session, str(os.nice(0)).encode())
        os.close(session)


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    death_signal: signal.Signals,
    account: Account | None = None,
    directory: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    niceness: int = 0,
) -> subprocess.Popen[bytes]:
    """Start a child in its own session and process group that the kernel ends when the calling thread dies.

    Call it from a thread that lives as long as the child should, normally the main one.

    Args:
        command: program and arguments.
        log: file that stdout and stderr are appended to.
        environment: the child's whole environment.
        death_signal: what the kernel sends to the child when its parent is gone.
        account: whom to run as; None for ourselves.
        directory: working directory.
        stdin: as in `subprocess.Popen`.
        niceness: how far it stands back where processors are short; 0 as much as we do, 19 at most.
    """
    parent = os.getpid()
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - the commands are our own, never a client's
            [os.fspath(part) for part in command],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            # The death signal is cleared by a change of uid, so it can only be set here, after it.
            preexec_fn=lambda: _prepare(parent, death_signal, niceness),  # noqa: PLW1509 - system calls only
        )


def end(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> int:
    """End a child: send each signal in turn and wait its seconds; at last kill its whole process group.

    Returns:
        The exit status, negative for a signal, as `subprocess.Popen.returncode`.
    """
    for sent, seconds in steps:
        if process.poll() is None:
            process.send_signal(sent)
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
    kill_group(process)
    return process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every process of the child's group that is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every process of the child's session that is left, and wait until they are gone.

    What a child has started ends with it, whatever its group, but later where it is starting itself or has no
    processor.
    """
    left = []
    for each in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(each.pid) == process.pid:
                each.kill()
                left.append(each)
    psutil.wait_procs(left, timeout=_KILLED_SECONDS)


class Child(ABC):
    """Something that runs as our own child. A context manager: entering starts it, leaving stops it.

    A child that has ended can be started again. Start it from a thread that lives as long as the
    child should, normally the main one: the kernel ends it together with that thread.

    Args:
        name: what it is called in messages and its log file.
        logs: the directory of its log file.
    """

    def __init__(self, name: str, logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the started child."""
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @abstractmethod
    def start(self) -> None:
        """Start the child.

        Raises:
            EmbeddedError: if it cannot run.
        """

    @abstractmethod
    def stop(self) -> None:
        """End the child cleanly, within bounded time. Does nothing when it was not started."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
