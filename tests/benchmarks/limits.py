"""What a benchmark found, what it must keep to, and whether it does."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A figure, what it must keep to, and whether it does."""

    name: str
    figure: str
    limit: str
    passed: bool


def print_and_exit(lines: Iterable[Line]) -> None:
    """Print each line as it comes; end the process with 1 if one missed its limit."""
    missed = 0
    for line in lines:
        print(
            f"{'pass' if line.passed else 'FAIL'}  {line.name:<75} {line.figure:>28}  {line.limit}",
            flush=True,
        )
        missed += not line.passed
    sys.exit(missed > 0)
