"""Progress of work on a screen."""

from datetime import datetime
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memaudit.synchronous.resources import Resources
from memaudit.types import Audit, Edit, Gate, ModelVersion, Study

W = TypeVar("W", Audit, Edit, Gate, ModelVersion, Study)


def progress_bars(screen: Console) -> Progress:
    """Bars with counts and elapsed time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
    )


def follow_with_progress(operations: Resources[W], work_id: str, progress: Progress, description: str) -> W:
    """Show the progress of work until it ends; the ended resource."""
    bar = progress.add_task(description, total=None)
    said: datetime | None = None

    def show(work: W) -> None:
        nonlocal said
        reached = work.progress
        stage = getattr(reached, "stage", None)  # of edits
        doing = f" ({stage.replace('_', ' ')})" if stage else ""
        if waiting := work.waiting:
            doing = f" (waiting; tried again at {_clock(waiting.next_try_at)})"
            if waiting.since != said:
                said = waiting.since
                progress.console.print(f"Waiting: {waiting.reason.detail}", markup=False, soft_wrap=True)
        progress.update(bar, description=description + doing, completed=reached.done, total=reached.total)

    return operations.wait(work_id, on_progress=show)


def _clock(moment: datetime) -> str:
    """A moment as this machine's clock shows it."""
    return moment.astimezone().strftime("%H:%M:%S")
