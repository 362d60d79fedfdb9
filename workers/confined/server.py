"""The server that confined processes are forked from: a program, started by `workers.confined.process`.

It has one thread, loads once what programs need, some 390 MB that its forks share, and ends with its parent.
A request that it has no process or descriptor for fails alone. Once it was killed, no other is shared: each
process that asked it starts one for itself.
"""

import ctypes
import gc
import os
import re
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson

from workers.confined.channel import Channel
from workers.confined.messages import Line
from workers.confined.process import MEMORY_REFUSED, Limits, close_all

_LARGEST_REQUEST: Final = 2**16
# Of a request: what its process talks through, and where its end is told.
_SOCKETS: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)
_server_pid: Final = os.getpid()
_DATA: Final = re.compile(r"VmData:\s+(\d+) kB")


def main(control: socket.socket) -> None:
    """Fork a process for each request, and tell of each, when it has ended, how.

    Who hangs up wants to know no more: the process is killed. Whose request cannot be served is hung up on.
    """
    import transformers.models.llama.modeling_llama  # noqa: F401, PLC0415 - most of what models share

    from workers.confined.programs import PROGRAMS  # noqa: PLC0415 - brings torch

    gc.freeze()  # to look for garbage among what is shared would copy it
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if isinstance(key.data, _Forked):
                    _attend(selector, key.data, ended=key.fd == key.data.pidfd)
                    continue
                request, descriptors, _, _ = socket.recv_fds(control, _LARGEST_REQUEST, _SOCKETS)
                if not request:
                    return
                sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
                forked = _fork(PROGRAMS, request, sockets)
                if forked is None:
                    close_all(*sockets)
                    continue
                sockets[0].close()
                selector.register(forked.pidfd, selectors.EVENT_READ, forked)
                selector.register(forked.status, selectors.EVENT_READ, forked)


@dataclass
class _Forked:
    """A process and who wants to know its end."""

    pid: int
    pidfd: int
    status: socket.socket
    is_wanted: bool = True


def _fork(
    programs: Mapping[str, Callable[[Channel, str], Any]], request: bytes, sockets: Sequence[socket.socket]
) -> _Forked | None:
    """A process for a request; None if there are too many processes or descriptors, or too little memory."""
    if len(sockets) < _SOCKETS:  # the kernel hands over as many as there is room for
        return None
    theirs, status = sockets
    try:
        pid = os.fork()
    except OSError:
        return None
    if pid == 0:
        _run(programs, orjson.loads(request), theirs)
    try:
        return _Forked(pid, os.pidfd_open(pid), status)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None


def _attend(selector: selectors.BaseSelector, forked: _Forked, *, ended: bool) -> None:
    """Bury a process that has ended, or kill one that nobody wants any more."""
    if forked.is_wanted:
        selector.unregister(forked.status)
        forked.is_wanted = False
        if not ended:
            signal.pidfd_send_signal(forked.pidfd, signal.SIGKILL)
    if not ended:
        return
    selector.unregister(forked.pidfd)
    os.close(forked.pidfd)
    _, how = os.waitpid(forked.pid, 0)
    with forked.status, suppress(OSError):  # nobody hears it
        Line(forked.status).say(os.waitstatus_to_exitcode(how))


def _run(
    programs: Mapping[str, Callable[[Channel, str], Any]], request: tuple[str, Any, str], line: socket.socket
) -> NoReturn:
    """Be a confined process: run a program within limits, and end."""
    name, of, argument = request
    limits = Limits(**of)
    code = 1
    try:
        _end_with_the_server()
        _keep_only(line)
        channel = Channel(line, limits)
        channel.allow()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + limits.memory_bytes,) * 2)
        channel.say(programs[name](channel, argument))
        code = 0
    except MemoryError:
        code = MEMORY_REFUSED
    finally:
        os._exit(code)  # whatever was raised: a traceback would quote files


def _end_with_the_server() -> None:
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != _server_pid:
        os._exit(1)


def _keep_only(line: socket.socket) -> None:
    """Close what is the server's and its other forks'."""
    os.closerange(3, line.fileno())
    os.closerange(line.fileno() + 1, os.sysconf("SC_OPEN_MAX"))


def _data_bytes() -> int:
    """The private memory of this process that can be written."""
    found = _DATA.search(Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
