"""Calls that are run in one child, for who has no event loop."""

import pickle
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import structlog

from app.rendering import child

log = structlog.get_logger()

# A function that a child can import, and its arguments, which can be pickled.
Call: TypeAlias = tuple[Callable[..., bytes], tuple[object, ...]]


def run_apart(calls: Sequence[Call], seconds: float) -> list[bytes | None]:
    """What functions give for their arguments, in a child that ends after the last of them.

    Args:
        calls: the functions with their arguments.
        seconds: that all of them together may take.

    Returns:
        What each gave, in order; None of one that failed, and of those that the child did not live to answer.
    """
    asked = b"".join(child.LENGTH.pack(len(call)) + call for call in map(pickle.dumps, calls))
    answers = list(_answers(_ask(asked, seconds)))
    for done, answer in answers:
        if not done:
            log.warning("rendering_failed", error=answer.decode())
    if len(answers) < len(calls):
        log.warning("rendering_child_ended", answered=len(answers), asked=len(calls))
    unanswered = len(calls) - len(answers)
    return [answer if done else None for done, answer in answers] + [None] * unanswered


def _ask(asked: bytes, seconds: float) -> bytes:
    """All that a child has said when it ended, or was ended."""
    try:
        return subprocess.run(  # noqa: S603 - our own program
            child.command(),
            input=asked,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child.environment(),
            timeout=seconds,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as expired:
        return expired.stdout or b""
    except OSError:  # no child could be started
        return b""


def _answers(said: bytes) -> Iterator[tuple[bool, bytes]]:
    """The whole answers in what was said."""
    start = 0
    while (begin := start + child.ANSWER.size) <= len(said):
        done, length = child.ANSWER.unpack_from(said, start)
        start = begin + length
        if start <= len(said):
            yield done, said[begin:start]
