"""A clock that is wrong, for one process: a library that is preloaded into it."""

import os
import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


def build_skewed_clock(directory: Path) -> Path | None:
    """Compile the library; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "skewed_clock.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


def skewed(library: Path, seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is so far ahead."""
    return {"LD_PRELOAD": os.fspath(library), "SKEW_SECONDS": str(seconds)}
