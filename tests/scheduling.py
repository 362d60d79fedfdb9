"""Which tests run in the same process when several share the work: those of a file or of a costly fixture."""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

# Fixtures of the session that are so slow that one process makes them: all files that name one go there.
MADE_ONCE = ("whole_suite",)
TESTS = Path(__file__).parent


class FilesTogether(LoadFileScheduling):
    """Hands out files in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.split("::", 1)[0])


@cache
def group_of(file: str) -> str:
    """The costly fixture that a file of tests names, else the file itself."""
    source = (TESTS.parent / file).read_text(encoding="utf-8")
    return next((fixture for fixture in MADE_ONCE if fixture in source), file)
