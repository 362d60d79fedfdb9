"""The server that confined processes are forked from: a program, started by `workers.confined.process`.

It has one thread, loads once what programs need, some 300 MB that its forks share, and ends with its parent.
"""

import gc
import os
import re
import resource
import selectors
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson

from workers.confined.channel import Channel
from workers.confined.messages import Line
from workers.confined.process import MEMORY_REFUSED, Limits

_LARGEST_REQUEST: Final = 2**16
_DATA: Final = re.compile(r"VmData:\s+(\d+) kB")


def main(control: socket.socket) -> None:
    """Fork a process for each request, and tell of each its number and, when it has ended, how."""
    import transformers.models.llama.modeling_llama  # noqa: F401, PLC0415 - most of what models share

    from workers.confined.programs import PROGRAMS  # noqa: PLC0415 - brings torch

    gc.freeze()  # to look for garbage among what is shared would copy it
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    _bury(*key.data)
                    continue
                request, descriptors, _, _ = socket.recv_fds(control, _LARGEST_REQUEST, 2)
                if not request:
                    return
                theirs, status = (socket.socket(fileno=descriptor) for descriptor in descriptors)
                pid = os.fork()
                if pid == 0:
                    _run(PROGRAMS, orjson.loads(request), theirs)
                theirs.close()
                _tell(status, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))


def _bury(pid: int, status: socket.socket) -> None:
    _, ended = os.waitpid(pid, 0)
    with status:
        _tell(status, os.waitstatus_to_exitcode(ended))


def _tell(status: socket.socket, number: int) -> None:
    with suppress(OSError):  # nobody wants to know any more
        Line(status).send(str(number).encode())


def _run(
    programs: Mapping[str, Callable[[Channel, str], Any]], request: tuple[str, Any, str], line: socket.socket
) -> NoReturn:
    """Be a confined process: run a program within limits, and end."""
    name, of, argument = request
    limits = Limits(**of)
    code = 1
    try:
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
