"""A terminal status of an audit, edit or language model is written by `lifecycle.end` and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The statuses of what has not ended, as code names them.
ACTIVE = {
    "OperationStatus.QUEUED",
    "OperationStatus.RUNNING",
    "LanguageModelStatus.QUEUED",
}
TABLES = {"Audit", "Edit", "LanguageModel"}
RAW = re.compile(r"\b(UPDATE|INSERT INTO)\s+(audits|edits|language_models)\b", re.IGNORECASE)


def writes_of_a_status(source: str) -> Iterator[tuple[str | None, int]]:
    """The function and line of whatever may write a terminal status."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in ast.walk(tree):
        if any(ast.unparse(value) not in ACTIVE for value in _written(node)):
            assert isinstance(node, ast.stmt | ast.expr)
            around = [each for each in functions if each.lineno <= node.lineno <= (each.end_lineno or 0)]
            yield (around[-1].name if around else None), node.lineno


def _written(node: ast.AST) -> Iterator[ast.expr]:
    """What a node writes to a status, be it unknown what that is."""
    if isinstance(node, ast.Assign):
        if any(isinstance(each, ast.Attribute) and each.attr == "status" for each in node.targets):
            yield node.value
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called == "setattr" and ast.unparse(node.args[1]) == "'status'":
            yield node.args[2]
        if called in TABLES or called.endswith((".values", "execute")):
            yield from (each.value for each in node.keywords if each.arg == "status")
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            # A column of a row by name; a problem document's status is a number.
            terminal = ast.unparse(value).startswith(("OperationStatus.", "LanguageModelStatus."))
            if terminal and key is not None and ast.unparse(key) == "'status'":
                yield value
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and RAW.search(node.value):
        yield node


@pytest.mark.parametrize(
    "statement",
    [
        "audit.status = OperationStatus.SUCCEEDED",
        "audit.status = status",
        "setattr(edit, 'status', OperationStatus.FAILED)",
        "update(Edit).where(Edit.id == edit_id).values(status=OperationStatus.FAILED)",
        "update(Edit).values({'status': OperationStatus.FAILED})",
        "LanguageModel(id=new_id(), status=LanguageModelStatus.READY)",
        "session.execute(text('UPDATE audits SET status = :status'))",
    ],
)
def test_the_scan_finds(statement: str) -> None:
    assert next(writes_of_a_status(f"def write():\n    {statement}")) == ("write", 2)


def test_no_other_statement_writes_a_terminal_status() -> None:
    found = {
        (str(path.relative_to(ROOT)), function)
        for room in ("app", "workers")
        for path in (ROOT / room).rglob("*.py")
        for function, _ in writes_of_a_status(path.read_text())
    }
    assert found == {("app/store/lifecycle.py", "end")}
