"""Whoever follows an audit or edit on the command line sees that something is waited for, and until when."""

from collections.abc import Callable
from io import StringIO
from typing import Any, cast

from rich.console import Console

from app.cli.following import follow_with_progress, progress_bars
from memaudit.synchronous.audits import Audits
from memaudit.types import Audit, Problem, Progress, Waiting

REASON = "The hub does not answer."


class Followed:
    """What a service says of one audit, one time after another."""

    def __init__(self, shown: list[Any], descriptions: list[str], progress: Any) -> None:
        self._shown, self._descriptions, self._progress = shown, descriptions, progress

    def wait(self, _id: str, *, on_progress: Callable[[Any], None]) -> None:
        for audit in self._shown:
            on_progress(audit)
            self._descriptions.append(self._progress.tasks[0].description)


def audit(minute: int | None) -> Audit:
    waiting = None
    if minute is not None:
        since, again = "2026-01-01T00:00:00Z", f"2026-01-01T00:{minute:02}:00Z"
        reason = Problem(type="", title="", status=503, detail=REASON)
        waiting = Waiting.model_validate(
            {"reason": reason, "attempts": 1, "since": since, "next_try_at": again}
        )
    return Audit.model_construct(progress=Progress(done=0, total=10), waiting=waiting)


def test_an_outage_is_told_once_and_its_next_try_is_shown() -> None:
    screen = Console(file=StringIO(), width=200)
    descriptions: list[str] = []
    with progress_bars(screen) as progress:
        client = Followed([audit(None), audit(1), audit(3), audit(None)], descriptions, progress)
        follow_with_progress(cast("Audits", client), "aud_1", progress, "Scoring texts")
    assert cast("StringIO", screen.file).getvalue().count(REASON) == 1
    assert descriptions[0] == descriptions[-1] == "Scoring texts"
    assert ":01:00)" in descriptions[1]
    assert ":03:00)" in descriptions[2]
