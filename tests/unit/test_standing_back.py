"""A program of ours that stands back where processors are short."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from app.embedded.programs import Program

_TELL = "import json, os; print(json.dumps([os.nice(0), os.sched_getscheduler(0)]))"


@pytest.mark.parametrize("stands_back", [False, True])
def test_a_program_stands_back_if_it_is_told_to(tmp_path: Path, stands_back: bool) -> None:
    program = Program(
        "child",
        [sys.executable, "-c", _TELL],
        logs=tmp_path,
        environment={},
        directory=tmp_path,
        stop_steps=((signal.SIGTERM, 5.0),),
        stands_back=stands_back,
    )
    with program:
        assert program.process is not None
        program.process.wait(30)
    niceness, policy = json.loads(program.log.read_text())
    assert niceness == min(19, os.nice(0) + 10 * stands_back)
    idle = stands_back and len(os.sched_getaffinity(0)) > 1
    assert policy == (os.SCHED_IDLE if idle else os.sched_getscheduler(0))
