"""Child processes that draw: a few at once, each for a limited time, none longer than the API.

What draws holds the interpreter meanwhile, keeps a hundred megabytes, and is only stopped with its process.
(`concurrent.futures` gives up all processes where one is killed, and leaves them where its own is;
`anyio.to_process` gives them our environment, trusts their pickles, and serves one run of a loop.)
"""

import asyncio
import pickle
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

import structlog

from app.errors import RenderingTimedOut, ServiceUnavailable
from app.rendering import child

log = structlog.get_logger()

# A function that a child can import, and what it is called with, which can be pickled.
RunApart: TypeAlias = Callable[..., Awaitable[bytes]]

_WAITING_A_CHILD: Final = 16
_IDLE_SECONDS: Final = 300.0


class Renderings:
    """Turns at rendering, and the children that it is done in.

    Args:
        most: renderings at once, and so children; sixteen times as many may wait for their turn.
        seconds: that a child may take for one call.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._turns = asyncio.Semaphore(most)
        self._most_waiting = _WAITING_A_CHILD * most
        self._waiting = 0
        self._seconds = seconds
        self._children: set[Process] = set()
        self._idle: dict[Process, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def turn(self, *, begun: bool = False) -> AsyncIterator[RunApart]:
        """Wait for a turn; within it calls are run in a child, one after the other.

        Args:
            begun: whether a part of the document was rendered before: it is not refused any more.

        Raises:
            ServiceUnavailable: too many wait.
        """
        if self._turns.locked() and self._waiting >= self._most_waiting and not begun:
            raise ServiceUnavailable("Too many documents are being drawn; repeat the request later.")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield self._run
        finally:
            self._turns.release()

    async def _run(self, function: Callable[..., bytes], *arguments: object) -> bytes:
        """What the function gives for the arguments, in a child.

        Raises:
            RenderingTimedOut: it took too long.
            ServiceUnavailable: the child was ended by somebody else, as where memory is short.
            RuntimeError: the function failed.
        """
        call = pickle.dumps((function, arguments))
        process = self._take() or await self._start()
        try:
            async with asyncio.timeout(self._seconds):
                done, answer = await _ask(process, call)
        except TimeoutError:
            self._end(process)
            raise RenderingTimedOut(self._seconds) from None
        except (OSError, asyncio.IncompleteReadError):
            self._end(process)
            log.warning("rendering_child_ended", returncode=await process.wait())
            raise ServiceUnavailable("What draws the document was ended; repeat the request.") from None
        except BaseException:
            self._end(process)
            raise
        timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end, process)
        self._idle[process] = timer
        if not done:
            log.error("rendering_failed", error=answer.decode())
            raise RuntimeError(f"A rendering failed: {answer.decode()}")
        return answer

    def _take(self) -> Process | None:
        """The child that was busy last, so that those beyond need end."""
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if process.returncode is None:
                return process
        return None

    async def _start(self) -> Process:
        # What it says of a document that it cannot draw would quote it.
        process = await asyncio.create_subprocess_exec(
            *child.command(), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=child.environment()
        )
        self._children = {each for each in self._children if each.returncode is None} | {process}
        return process

    def _end(self, process: Process) -> None:
        if timer := self._idle.pop(process, None):
            timer.cancel()
        with suppress(ProcessLookupError):
            process.kill()

    async def close(self) -> None:
        """End all children."""
        for process in self._children:
            self._end(process)
        await asyncio.gather(*(process.wait() for process in self._children))


async def _ask(process: Process, call: bytes) -> tuple[bool, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.writelines((child.LENGTH.pack(len(call)), call))
    await process.stdin.drain()
    done, length = child.ANSWER.unpack(await process.stdout.readexactly(child.ANSWER.size))
    return done, await process.stdout.readexactly(length)
