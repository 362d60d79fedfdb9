"""Passes over blocks of tokens that add up the curvature of projections, chunk by chunk.

Shapes: T places of a block.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from workers.science.curvature.chunks import Chunks, Node, SumTree
from workers.science.curvature.factor_hooks import FactorSums, Recorder
from workers.science.models.gradients import frozen, loss_gradients
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import TokenBlocks
from workers.science.scoring.batching import map_on_cores
from workers.science.scoring.likelihood import base_hidden_states

Labels = Literal["sampled", "gold"]
OnProgress = Callable[[int], None]

# Enough tokens to keep the matrix products busy, few enough that a batch's graph stays small.
_CPU_BATCH_TOKENS = 1024
_GPU_BATCH_TOKENS = 8192
# Cores work on chunks of their own, each with sums of its own, while those sums stay below this together.
_LANE_BYTES = 512 * 2**20


def batch_tokens(device: torch.device) -> int:
    """How many tokens go through a model forwards and backwards together."""
    return _CPU_BATCH_TOKENS if device.type == "cpu" else _GPU_BATCH_TOKENS


@dataclass(frozen=True)
class Part:
    """The part of a collection that is collected at once: nodes of one level, and the blocks below them.

    Attributes:
        chunks: the whole collection.
        nodes: whose sums are wanted.
        blocks: those from `first` on, as far as they are needed.
        first: the number of the first of them in the collection.
    """

    chunks: Chunks
    nodes: Sequence[Node]
    blocks: TokenBlocks
    first: int = 0

    @classmethod
    def whole(cls, blocks: TokenBlocks, chunks: Chunks | None = None) -> "Part":
        """All of a collection."""
        chunks = chunks or Chunks.cut(len(blocks), blocks.ids.shape[1])
        return cls(chunks, chunks.nodes(chunks.levels), blocks)


def collect_sums(
    language_model: LanguageModel,
    part: Part,
    projections: Sequence[Projection],
    *,
    labels: Labels = "sampled",
    seed: int = 0,
    batch_blocks: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[Node, FactorSums]:
    """The sums of each node of a part.

    A chunk's sums come about in one order, on as many threads as they would in any other part, and are added
    along the tree: a machine gives a node the same bits whatever else it collects. In memory are the sums of
    a chunk for each lane, and beside them at most those of a node for each level and one of the first half.

    Args, besides those of `collect_factors`:
        part: what to collect.
        on_progress: told how many blocks are done, by the thread that did them; may raise to stop.

    Raises:
        ValueError: if there is no projection or `labels` is neither.
    """
    if not projections or labels not in get_args(Labels):
        raise ValueError("give projections, and labels sampled or gold")
    on_cpu = language_model.device.type == "cpu"
    size = batch_blocks or max(1, batch_tokens(language_model.device) // part.blocks.ids.shape[1])
    batches = _Batches(part, size, seed if labels == "sampled" else None)
    lanes = 1
    if on_cpu:
        affordable = _LANE_BYTES // FactorSums.bytes_for(projections)
        lanes = max(1, min(torch.get_num_threads(), part.chunks.count, affordable))
    with frozen(language_model.model), Recorder(projections) as recorder:
        work = _Work(
            part,
            batches,
            lambda batch, sums: _collect_batch(language_model, recorder, batch, sums),
            on_progress,
        )
        list(map_on_cores(work.run_lane, range(lanes), language_model.device))
    return work.found


@dataclass(frozen=True)
class _Batch:
    """Blocks that go through the model at once, with the quantiles [blocks, T] of their sampled labels."""

    blocks: TokenBlocks
    quantiles: Tensor | None


class _Batches:
    """The batches of each chunk. Quantiles are drawn for all blocks of the collection, in their order."""

    def __init__(self, part: Part, size: int, seed: int | None) -> None:
        self._part = part
        self._size = size
        self._quantiles: Tensor | None = None
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            width = part.blocks.ids.shape[1]
            for _ in range(part.first):
                torch.rand(width, generator=generator)
            self._quantiles = torch.rand(part.blocks.ids.shape, generator=generator)

    def of(self, leaf: Node) -> Iterator[_Batch]:
        blocks = self._part.chunks.blocks_of(leaf)
        for start in range(blocks.start, blocks.stop, self._size):
            rows = slice(start - self._part.first, min(start + self._size, blocks.stop) - self._part.first)
            quantiles = None if self._quantiles is None else self._quantiles[rows]
            yield _Batch(self._part.blocks.part(rows), quantiles)


class _Work:
    """The chunks of a part, taken by lanes beside each other: which takes which changes nothing.

    When `on_progress` raises, or a batch fails, each lane ends after its batch in flight.
    """

    def __init__(
        self,
        part: Part,
        batches: _Batches,
        collect: Callable[[_Batch, FactorSums], None],
        on_progress: OnProgress | None,
    ) -> None:
        self._batches = batches
        self._collect = collect
        self._on_progress = on_progress
        self._leaves = (leaf for node in part.nodes for leaf in part.chunks.below(node))
        self._tree = SumTree[FactorSums](part.chunks, part.nodes[0].level, self._add)
        self._spare: list[FactorSums] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._done = 0

    @property
    def found(self) -> dict[Node, FactorSums]:
        """The sums of the nodes."""
        return self._tree.found

    def run_lane(self, _lane: int) -> None:
        """Collect chunks until none is left."""
        try:
            while (taken := self._take()) is not None:
                leaf, sums = taken
                for batch in self._batches.of(leaf):
                    if self._stop.is_set():
                        return
                    self._collect(batch, sums)
                    self._tell(len(batch.blocks))
                with self._lock:
                    self._tree.put(leaf, sums)
        except BaseException:
            self._stop.set()
            raise

    def _take(self) -> tuple[Node, FactorSums] | None:
        with self._lock:
            leaf = next(self._leaves, None)
            if leaf is None:
                return None
            return leaf, self._spare.pop() if self._spare else FactorSums()

    def _tell(self, blocks: int) -> None:
        with self._lock:
            self._done += blocks
            if self._on_progress is not None:
                self._on_progress(self._done)

    def _add(self, first: FactorSums, second: FactorSums) -> None:
        """Add two sums; the memory of the second takes the next chunk."""
        first.add(second)
        second.clear()
        self._spare.append(second)


def _collect_batch(
    language_model: LanguageModel, recorder: Recorder, batch: _Batch, sums: FactorSums
) -> None:
    """Run a batch forward, then its loss backward to the first projection, adding to the sums on the way."""
    device = language_model.device
    predicts = batch.blocks.predicts.flatten()
    positions = predicts.nonzero()[:, 0].to(device)
    if not len(positions):
        return
    with torch.enable_grad(), recorder.recording(positions, sums):
        hidden = base_hidden_states(language_model.model, batch.blocks.ids.to(device)).flatten(0, 1)[
            positions
        ]
    gold, quantiles = batch.blocks.labels.flatten(), batch.quantiles
    gradients = loss_gradients(
        language_model.model,
        hidden,
        labels=gold[predicts].to(device) if quantiles is None else None,
        quantiles=None if quantiles is None else quantiles.flatten()[predicts].to(device),
    )
    torch.autograd.backward(hidden, gradients)
    sums.tokens += len(positions)
