"""Failures that a person can act on are one line and an exit status."""

from pathlib import Path

import httpx
import pytest
import typer

from app.cli.audit import _save_scores
from app.cli.failures import ExitStatus
from memaudit import Client


def test_a_place_that_cannot_be_written_to_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = httpx.MockTransport(lambda _: httpx.Response(200, content=b"text_id,nl\n"))
    target = tmp_path / "missing" / "scores.csv"
    with Client("http://m.test", "mak_any", transport=scores) as client, pytest.raises(typer.Exit) as ended:
        _save_scores(client, "aud_1", target)
    assert ended.value.exit_code == ExitStatus.FAILED
    assert capsys.readouterr().err == f"memaudit: {target}: No such file or directory\n"
