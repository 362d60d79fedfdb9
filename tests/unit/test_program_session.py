"""What a program of ours has started is gone when the program has been stopped."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from app.embedded.programs import Program

# A program that ends at once when it is asked to, and leaves what it started in a group of its own.
SCRIPT = """
import subprocess, sys, time
started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print(started.pid, flush=True)
time.sleep(600)
"""


def test_nothing_of_its_session_is_left_when_it_has_been_stopped(tmp_path: Path) -> None:
    program = Program(
        "child",
        [sys.executable, "-c", SCRIPT],
        logs=tmp_path,
        environment={},
        directory=tmp_path,
        stop_steps=((signal.SIGTERM, 30.0),),
    )
    with program:
        while not program.log.read_text().endswith("\n"):
            time.sleep(0.05)
        started = psutil.Process(int(program.log.read_text()))
        assert started.is_running()
        assert os.getsid(started.pid) == program.pid
    assert not started.is_running()
