"""One server of confined processes for all workers that tests start: one takes seconds to load torch.

Workers import this module. Tests of confined processes themselves let workers have servers of their own.
"""

import os
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Final

from workers.confined import process

ADDRESS: Final = "MEMAUDIT_TEST_CONFINED_SERVER"


@cache
def shared_server() -> str:
    """Where workers get the way to the server of this process."""
    process.start_server()
    address = Path(tempfile.mkdtemp(prefix="memaudit-test-")) / "confined"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()
    threading.Thread(target=_hand_out, args=(listener,), daemon=True).start()
    return str(address)


def _hand_out(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            process.start_server()
            control = process._server._control
            assert control is not None
            socket.send_fds(connection, [b"!"], [control.fileno()])


def _take(address: str) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        _, (descriptor,), _, _ = socket.recv_fds(connection, 1, 1)
    return socket.socket(fileno=descriptor)


if ADDRESS in os.environ:
    process._server._control = _take(os.environ[ADDRESS])
