"""What work would take, as a table."""

from typing import Final

from rich.console import Console
from rich.table import Table

from app.cli.output import print_json
from memaudit.types import Estimate

_GIB: Final = 2**30
_FITS: Final = {True: "yes", False: "no", None: "unknown"}


def show_estimate(estimate: Estimate, *, as_json: bool) -> None:
    """Print an estimate, as it came or for people."""
    if as_json:
        print_json(estimate)
        return
    console = Console()
    console.print(_table(estimate))
    for note in estimate.notes:
        console.print(f"- {note}", markup=False, highlight=False)


def _table(estimate: Estimate) -> Table:
    tokens = "tokens unknown" if estimate.tokens is None else f"{estimate.tokens} tokens"
    needed = estimate.memory.bytes_needed
    memory = "memory unknown" if needed is None else f"at least {needed / _GIB:.3g} GiB of memory"
    table = Table(title=f"{estimate.texts} texts, {tokens}, {memory}")
    for heading in ("workers", "memory", "fits", "time", "loading", "basis"):
        table.add_column(heading, justify="left" if heading in {"workers", "basis"} else "right")
    for each in estimate.by_worker_class:
        table.add_row(
            each.worker_class,
            f"{each.memory_bytes / _GIB:.0f} GiB",
            _FITS[each.fits],
            _duration(each.seconds),
            _duration(each.loading_seconds),
            each.basis,
        )
    return table


def _duration(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.3g} s"
