"""The process that makes parts of a log of Inspect."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, Any, Final, Literal, TypeAlias

import orjson

from app.errors import EvidenceFormatNotInstalled

Kind: TypeAlias = Literal["log", "sample"]

_PROGRAM: Final = "app.evidence.inspect_parts"


def check_installed() -> None:
    """Say what to install.

    Raises:
        EvidenceFormatNotInstalled: `inspect_ai` is not there.
    """
    if find_spec("inspect_ai") is None:
        raise EvidenceFormatNotInstalled(
            "This format is written by inspect_ai, which is not installed where the API runs. "
            "Whoever runs the service can add it: pip install 'memaudit[inspect]'."
        )


class InspectParts:
    """Asks the process; one question at a time."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions = questions
        self._answers = answers

    def make(self, kind: Kind, facts: Sequence[dict[str, Any]]) -> bytes:
        """Parts as Inspect writes them, joined by commas.

        Raises:
            RuntimeError: Inspect does not take them, or the process was ended.
        """
        self._questions.write(orjson.dumps([kind, facts], option=orjson.OPT_APPEND_NEWLINE))
        self._questions.flush()
        answer = self._answers.readline()
        if not answer.endswith(b"\n"):
            raise RuntimeError("inspect_ai did not write a part of a log")
        return answer[:-1]


@contextmanager
def inspect_parts() -> Iterator[InspectParts]:
    """A process for one log; it ends with it, however that ends."""
    # It needs where modules are, and none of the service's settings: some are secrets. What it says of facts
    # that it does not take would quote them.
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", "-m", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield InspectParts(process.stdin, process.stdout)
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()
