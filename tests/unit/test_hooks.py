"""The hooks that git runs are the checks that `make check` runs."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_hooks_run_what_the_checks_run() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    before_commits = [hook["entry"] for hook in local["hooks"] if hook["stages"] == ["pre-commit"]]
    check = re.search(r"^check: (.*?) ##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert check is not None
    assert before_commits == [f"make {target}" for target in check[1].split()]
