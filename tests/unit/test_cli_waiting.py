"""Whoever follows an audit or edit on the command line sees that something is waited for, and until when."""

from collections.abc import Iterator
from io import StringIO
from typing import Any, cast

from rich.console import Console

from app.cli.audit import follow_with_progress, progress_bars
from app.cli.client import ServiceClient

REASON = "The hub does not answer."


class Followed:
    """What a service says of one audit, one time after another."""

    def __init__(self, shown: list[dict[str, Any]], descriptions: list[str], progress: Any) -> None:
        self._shown, self._descriptions, self._progress = shown, descriptions, progress

    def follow(self, _audit: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for audit in self._shown:
            yield audit
            self._descriptions.append(self._progress.tasks[0].description)


def audit(minute: int | None) -> dict[str, Any]:
    reached = {"done": 0, "total": 10, "unit": "texts"}
    waiting = None
    if minute is not None:
        since, again = "2026-01-01T00:00:00Z", f"2026-01-01T00:{minute:02}:00Z"
        waiting = {"reason": {"detail": REASON}, "attempts": 1, "since": since, "next_try_at": again}
    return {"progress": reached, "waiting": waiting}


def test_an_outage_is_told_once_and_its_next_try_is_shown() -> None:
    screen = Console(file=StringIO(), width=200)
    descriptions: list[str] = []
    with progress_bars(screen) as progress:
        client = Followed([audit(None), audit(1), audit(3), audit(None)], descriptions, progress)
        follow_with_progress(cast("ServiceClient", client), audit(None), progress, "Scoring texts")
    assert cast("StringIO", screen.file).getvalue().count(REASON) == 1
    assert descriptions[0] == descriptions[-1] == "Scoring texts"
    assert ":01:00)" in descriptions[1]
    assert ":03:00)" in descriptions[2]
