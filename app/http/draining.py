"""The end of the process, told to those who wait for something to happen.

The server that runs the application ends it only after the last open request. One that waits would hold it up
until it is cut off; told in time, it answers what is there, and its client goes on at another process.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_of_the_end(tell: Callable[[], None]) -> Iterator[None]:
    """Let `tell` be called in the running loop when a signal asks the server to stop.

    The server does what it would do besides. Nothing is called where no server listens to the signal, or in
    another thread than the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {each: signal.getsignal(each) for each in _STOP_SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(tell)
        handler = before[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    for each, handler in before.items():
        if callable(handler) and handler is not signal.default_int_handler:
            signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
