"""A program of ours that stands back where processors are short."""

import os
import signal
import sys
from pathlib import Path

import pytest

from app.embedded.programs import Program

SESSION = Path("/proc/self/autogroup")


def said_by_a_program(directory: Path, niceness: int, script: str) -> str:
    program = Program(
        "child",
        [sys.executable, "-c", script],
        logs=directory,
        environment={},
        directory=directory,
        stop_steps=((signal.SIGTERM, 5.0),),
        niceness=niceness,
    )
    with program:
        assert program.process is not None
        program.process.wait(30)
    return program.log.read_text()


@pytest.mark.parametrize("niceness", [0, 5])
def test_a_program_stands_back_as_far_as_it_is_told(tmp_path: Path, niceness: int) -> None:
    said = said_by_a_program(tmp_path, niceness, "import os; print(os.nice(0))")
    assert int(said) == min(19, os.nice(0) + niceness)


@pytest.mark.skipif(not SESSION.exists(), reason="this kernel does not share processors by session")
@pytest.mark.parametrize("niceness", [0, 5])
def test_its_session_stands_back_as_far_and_ours_does_not(tmp_path: Path, niceness: int) -> None:
    ours = SESSION.read_text()
    said = said_by_a_program(tmp_path, niceness, f"print(open('{SESSION}').read())")
    group, _, told = said.partition(" nice ")
    assert group not in ours
    assert int(told) == (min(19, os.nice(0) + niceness) if niceness else 0)
    assert SESSION.read_text() == ours
