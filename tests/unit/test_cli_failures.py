"""Failures that a person can act on are one line and an exit status."""

from pathlib import Path

import httpx
import psycopg
import pytest
import typer
from sqlalchemy.exc import OperationalError

from app.cli.audit import _save_scores
from app.cli.failures import ExitStatus, explained
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


@pytest.mark.parametrize(
    ("cause", "status", "told"),
    [
        (psycopg.OperationalError(), ExitStatus.UNREACHABLE, "Postgres cannot be reached"),
        (psycopg.errors.DeadlockDetected(), ExitStatus.FAILED, "(deadlock detected); run it again"),
        (psycopg.errors.QueryCanceled(), ExitStatus.FAILED, "(query canceled); its log says why"),
    ],
)
def test_a_database_that_answers_is_not_called_away(
    cause: psycopg.Error, status: ExitStatus, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = None if status is ExitStatus.UNREACHABLE else "SELECT 1"
    with pytest.raises(typer.Exit) as ended, explained():
        raise OperationalError(statement, {}, cause)
    assert ended.value.exit_code == status
    assert told in capsys.readouterr().err
