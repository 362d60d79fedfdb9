"""Run training processes side by side, with a progress bar each.

A child that loses its parent stops at its next report: the pipe is broken. A parent that is interrupted
ends its children, so that only directories with partial names are left.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from workers.suite.errors import SuiteError, TrainingFailed
from workers.suite.training import Run, configure_process, train

# The server imports torch once, in about five seconds, and starts no thread before it forks.
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["workers.suite.training"])


class _TokenRate(ProgressColumn):
    """Training speed in tokens a second, from the task's steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed * task.fields['step_tokens']:,.0f} tokens/s")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def train_all(runs: Sequence[Run], parallel: int, console: Console) -> dict[str, float]:
    """Train every run, at most `parallel` at a time.

    Returns:
        The loss of each run's last step in nats a token, by name.

    Raises:
        TrainingDiverged: if a loss is not finite.
        TrainingFailed: if a process ended otherwise before its model was saved.
    """
    waiting = list(runs)
    active: dict[Connection, tuple[Run, BaseProcess]] = {}
    losses: dict[str, float] = {}
    with _progress(console) as progress:
        bars = {
            run.name: progress.add_task(
                run.name, total=run.size.steps, start=False, step_tokens=run.size.batch * run.size.context
            )
            for run in runs
        }
        try:
            while waiting or active:
                while waiting and len(active) < parallel:
                    run = waiting.pop(0)
                    connection, process = _start(run)
                    active[connection] = (run, process)
                    progress.start_task(bars[run.name])
                ready = wait(list(active))
                for connection in [connection for connection in active if connection in ready]:
                    run, process = active[connection]
                    try:
                        step, losses[run.name] = _receive(connection)
                    except EOFError:
                        del active[connection]
                        _join(run, process)
                    else:
                        progress.update(bars[run.name], completed=step)
        finally:
            for _, process in active.values():
                process.terminate()
                process.join()
    return losses


def _start(run: Run) -> tuple[Connection, BaseProcess]:
    """Start a process that trains."""
    receiver, sender = _FORKSERVER.Pipe(duplex=False)
    process = _FORKSERVER.Process(target=_child, args=(run, sender), name=f"train {run.name}", daemon=True)
    # Ctrl-C is the parent's own: it ends its children. The server inherits this while it gets ready.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        sender.close()
    return receiver, process


def _child(run: Run, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whatever mask was inherited
    configure_process(run)
    try:
        train(run, lambda step, loss: sender.send((step, loss)))
    except SuiteError as error:
        sender.send(error)
    except BrokenPipeError:
        sys.exit(1)  # the parent is gone


def _receive(connection: Connection) -> tuple[int, float]:
    """The steps done and the latest loss, or the error that a child ended with."""
    message: tuple[int, float] | SuiteError = connection.recv()
    if isinstance(message, SuiteError):
        raise message
    return message


def _join(run: Run, process: BaseProcess) -> None:
    process.join()
    if process.exitcode != 0:
        raise TrainingFailed(f"Training {run.name} ended with exit status {process.exitcode}.")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        _TokenRate(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    )
