"""The program of a child: reads calls from standard input and writes the bytes that they give.

A call is its length, and a function with its arguments, pickled. An answer is whether it was done, its
length, and what it gave; of a call that failed the name of the error, whose message may quote a text.
"""

import ctypes
import os
import pickle
import signal
import sys
from struct import Struct
from typing import Final

LENGTH: Final = Struct("!Q")
ANSWER: Final = Struct("!?Q")
_PR_SET_PDEATHSIG: Final = 1


def command() -> list[str]:
    """What starts a child."""
    return [sys.executable, "-P", "-m", "app.rendering.child"]


def environment() -> dict[str, str]:
    """Where modules are, and none of the settings of who starts a child: some are secrets."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def main() -> None:
    """Answer calls until there are no more."""
    if sys.platform == "linux":
        # Elsewhere a call that is in hand is ended first.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C is for the API, which ends us when nobody waits any more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls, answers = sys.stdin.buffer, sys.stdout.buffer
    while length := calls.read(LENGTH.size):
        call = calls.read(LENGTH.unpack(length)[0])
        done, answer = _answer(call)
        answers.write(ANSWER.pack(done, len(answer)))
        answers.write(answer)
        answers.flush()


def _answer(call: bytes) -> tuple[bool, bytes]:
    try:
        function, arguments = pickle.loads(call)  # noqa: S301 - written by our parent
        return True, function(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is ends this call and not the child
        return False, type(error).__name__.encode()


if __name__ == "__main__":
    main()
