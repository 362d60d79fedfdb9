"""Windows of long texts, batches of like length, and their spread over the cores."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

# Enough tokens to keep the matrix products busy, few enough to stay in a CPU's cache and to stop soon.
_CPU_BATCH_TOKENS = 1024
_GPU_BATCH_TOKENS = 16384
# A core that is left without a batch while another has the last one waits; of more batches that is little.
# The number does not follow from the number of cores, so that results do not either.
_EVEN = 4
_MANY = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of one text that goes through the model at once.

    With the tokens that stand in front put before the text's own, the window's inputs are the places `start`
    to `end` of that stream, and each place predicts the next. The last `n_scored` predictions count; the
    inputs before them are context only.
    """

    text: int
    start: int
    end: int
    n_scored: int

    def __len__(self) -> int:
        return self.end - self.start


def cut_windows(text: int, n_tokens: int, context_length: int, n_in_front: int) -> Iterator[Window]:
    """Cut a text into windows in which each token that something precedes is scored once.

    The first window holds the tokens in front and as much of the text as fits. Each later one scores the
    next `context_length` tokens after the one that precedes them; the last is filled up with left context.
    With one token in front these are the windows of lm-evaluation-harness 0.4.13 (`loglikelihood_rolling`,
    context length 1). With none the text's first token is left out, since nothing predicts it.

    Args:
        text: its number, for the windows.
        n_tokens: tokens of the text.
        context_length: tokens that the model sees at once; at least `n_in_front`.
        n_in_front: tokens in front of the text.
    """
    if n_tokens == 0:
        return
    # The text's last token is never an input.
    inputs = n_in_front + n_tokens - 1
    done = 0
    while done < inputs:
        end = min(done + context_length, inputs)
        # A place before the last token in front predicts another of those, which nobody scores.
        yield Window(text, max(0, end - context_length), end, end - max(done, n_in_front - 1))
        done = end


def batches_for(
    device: torch.device, windows: Sequence[Window], budget: int | None = None, *, padded: bool = True
) -> list[list[Window]]:
    """Batches that suit a device, see `batch_by_length`; its cores take them in turn."""
    if device.type == "cpu":
        return batch_by_length(windows, budget or _CPU_BATCH_TOKENS, padded=padded, multiple=_EVEN)
    return batch_by_length(windows, budget or _GPU_BATCH_TOKENS, padded=padded)


def batch_by_length(
    windows: Sequence[Window], budget: int, *, padded: bool = True, multiple: int = 1
) -> list[list[Window]]:
    """Batches of windows of like length, longest first.

    Args:
        windows: one that is longer than the budget is a batch by itself.
        budget: tokens of a batch at most.
        padded: whether padding counts.
        multiple: if there are few batches, so many or twice as many, or so, of about equal size are made, as
            far as windows allow.
    """
    ordered = sorted(windows, key=len, reverse=True)
    batches = _filled(ordered, budget, padded=padded)
    if len(batches) % multiple == 0 or len(batches) > _MANY:
        return batches
    wanted = -(-len(batches) // multiple) * multiple
    least = bisect_left(
        range(budget), -wanted, key=lambda tokens: -len(_filled(ordered, tokens, padded=padded))
    )
    return _filled(ordered, least, padded=padded)


def _filled(windows: Sequence[Window], budget: int, *, padded: bool) -> list[list[Window]]:
    """One batch after another filled up to the budget."""
    batches: list[list[Window]] = []
    taken = budget
    for window in windows:
        width = len(batches[-1][0]) if padded and batches else len(window)
        if taken + width > budget:
            batches.append([])
            taken, width = 0, len(window)
        batches[-1].append(window)
        taken += width
    return batches


def one_ahead(results: Iterable[Result]) -> Iterator[Result]:
    """The same results, each once the next one is begun: a device has work while one is looked at."""
    before: list[Result] = []
    for result in results:
        yield from before
        before = [result]
    yield from before


def map_on_cores(
    function: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> Iterator[Result]:
    """Apply `function` to the items and yield its results in their order.

    On a CPU each core takes whole items. That beats splitting every operation over the cores: nobody waits
    at a barrier after each small operation, least of all when another process takes a core away. If the
    consumer stops early, items that have not begun are dropped.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    workers = min(threads, len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    executor = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        yield from executor.map(function, items)
    finally:
        executor.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
