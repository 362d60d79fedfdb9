"""A program of ours that stands back where processors are short."""

import os
import signal
import sys
from pathlib import Path

import pytest

from app.embedded.programs import Program


@pytest.mark.parametrize("niceness", [0, 5])
def test_a_program_stands_back_as_far_as_it_is_told(tmp_path: Path, niceness: int) -> None:
    program = Program(
        "child",
        [sys.executable, "-c", "import os; print(os.nice(0))"],
        logs=tmp_path,
        environment={},
        directory=tmp_path,
        stop_steps=((signal.SIGTERM, 5.0),),
        niceness=niceness,
    )
    with program:
        assert program.process is not None
        program.process.wait(30)
    assert int(program.log.read_text()) == min(19, os.nice(0) + niceness)
