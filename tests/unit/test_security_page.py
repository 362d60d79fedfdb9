"""SECURITY.md names tests and places that exist."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "SECURITY.md").read_text()
ROWS = re.search(r"## Controls\n(.*?)\n## ", PAGE, re.DOTALL)


def controls() -> list[list[str]]:
    assert ROWS is not None
    lines = [line for line in ROWS[1].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_control_is_proved_by_a_test_that_exists() -> None:
    for threat, _, _, proofs in controls():
        named = re.findall(r"`([^`]+\.py)::(\w+)`", proofs)
        assert named, threat
        for path, name in named:
            tree = ast.parse((REPOSITORY / path).read_bytes())
            defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in defined, f"{path}::{name}"


def test_every_place_that_is_named_exists() -> None:
    for threat, _, places, _ in controls():
        for place in re.findall(r"`([^`]+)`", places):
            assert (REPOSITORY / place).exists(), (threat, place)
    for link in re.findall(r"\]\(([\w/.-]+\.md)(?:#[\w-]+)?\)", PAGE):
        assert (REPOSITORY / link).exists(), link
