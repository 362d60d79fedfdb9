"""Which tests run in the same process when several share the work: those of a file or of a costly fixture."""

import ast
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

# Fixtures of the session that are so slow that one process makes them, and runs all files that ask for one.
COSTLY = frozenset({"evidence", "pair", "whole_suite"})
ROOT = Path(__file__).parents[1]


class FilesTogether(LoadFileScheduling):
    """Hands out files in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "costly" if is_costly(ROOT / file) else file


@cache
def is_costly(file: Path) -> bool:
    """Whether anything in a file of tests asks for a costly fixture."""
    asked_for = {node.arg for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.arg)}
    return not COSTLY.isdisjoint(asked_for)
