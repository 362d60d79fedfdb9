"""Sums of curvature that several workers collect for one edit: how they are cut, stored and added."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor

from app.errors import ArtifactCorrupt
from app.store.factors import NewFactor
from app.store.partial_factors import PartialFactor, find_partial_factors
from workers.edits.inputs import EditInputs
from workers.edits.matrices import MatrixWriter, read_matrix
from workers.edits.progress import EditProgress
from workers.running.runtime import Runtime
from workers.science.curvature.chunks import HALVES, Chunks, Node, SumTree
from workers.science.curvature.factor_hooks import FactorSums
from workers.science.curvature.kfac import Factors, mean_of_halves
from workers.science.models.projections import Projection

ACTIVATIONS: Final = "activations"
GRADIENTS: Final = "gradients"
SIDES: Final = (ACTIVATIONS, GRADIENTS)

Mean = tuple[Tensor, float | None]


@dataclass(frozen=True)
class Cut:
    """How an edit's collection is cut into shards, as payloads say it.

    Attributes:
        blocks: of the whole collection.
        chunk_blocks: of a chunk.
        level: of the nodes that a shard collects one of.
    """

    blocks: int
    chunk_blocks: int
    level: int

    @classmethod
    def of(cls, blocks: int, block_tokens: int, shard_tokens: int) -> Self:
        """Shards of so many tokens at least, where there are as many."""
        chunks = Chunks.cut(blocks, block_tokens)
        level = 0
        while chunks.size * block_tokens << level < shard_tokens and level < chunks.levels:
            level += 1
        return cls(blocks, chunks.size, level)

    @property
    def chunks(self) -> Chunks:
        """The whole collection."""
        return Chunks(self.blocks, self.chunk_blocks)

    @property
    def shards(self) -> list[Node]:
        """What each shard collects, by its number."""
        return self.chunks.nodes(self.level)

    def as_payload(self) -> dict[str, Any]:
        """What the jobs say of it."""
        return asdict(self)


def store_sums(writer: MatrixWriter, sums: FactorSums, projections: Sequence[Projection]) -> list[NewFactor]:
    """Store the sums of a shard. Projections that read the same input share the bytes of that side.

    Raises:
        StorageFull, StorageUnavailable, BlobMissing: see `MatrixWriter.put`.
    """
    return [
        NewFactor(projection.key, side, sums.tokens, writer.put(matrix))
        for projection in projections
        for side, matrix in (
            (ACTIVATIONS, sums.activations[sums.sources[projection.path]]),
            (GRADIENTS, sums.gradients[projection.key]),
        )
    ]


def joined_factors(
    runtime: Runtime,
    inputs: EditInputs,
    key: str,
    projections: Sequence[Projection],
    progress: EditProgress,
) -> dict[str, Factors] | None:
    """The factors of projections, of the sums that the shards left: a matrix at a time.

    Args:
        runtime: this process.
        inputs: the edit, whose shards have all ended.
        key: of sums that can be added; others were made by another release or on another device.
        projections: all that the shards collected, or some.
        progress: told how many projections are done.

    Returns:
        By the projections' keys, where their weights are; None if not all of the sums are there and whole, so
        that they must be collected again.
    """
    assert inputs.collection is not None
    with runtime.sessions() as session:
        rows = find_partial_factors(session, inputs.edit_id)
    stored: dict[tuple[str, str], list[PartialFactor]] = {}
    for row in rows:
        if row.key == key:
            stored.setdefault((row.projection, row.side), []).append(row)
    joining = _Joining(runtime, Cut(**inputs.collection))
    factors: dict[str, Factors] = {}
    try:
        for projection in projections:
            (outputs, size), device = projection.weight.shape, projection.weight.device
            mine = {side: stored.get((projection.key, side), []) for side in SIDES}
            if any(len(sums) != joining.shards for sums in mine.values()):
                return None
            activations, activations_error = joining.mean(mine[ACTIVATIONS], size, device)
            gradients, gradients_error = joining.mean(mine[GRADIENTS], outputs, device)
            tokens = sum(row.tokens for row in mine[GRADIENTS])
            factors[projection.key] = Factors(
                activations, gradients, tokens, activations_error, gradients_error
            )
            progress.report(len(factors), len(projections))
    except ArtifactCorrupt:
        return None
    return factors


class _Joining:
    """Adds the sums of all shards along the tree. What several projections share is added once.

    Those are of one layer, whose weights are on one device.
    """

    def __init__(self, runtime: Runtime, cut: Cut) -> None:
        self._runtime = runtime
        self._chunks = cut.chunks
        self._nodes = cut.shards
        self._means: dict[tuple[tuple[str, ...], torch.device], Mean] = {}

    @property
    def shards(self) -> int:
        return len(self._nodes)

    def mean(self, rows: Sequence[PartialFactor], width: int, device: torch.device) -> Mean:
        """The mean outer product, and how far it has settled, of the sums of each shard in their order."""
        wanted = tuple(row.sha256 for row in rows), device
        if wanted not in self._means:
            self._means[wanted] = self._add(rows, width, device)
        return self._means[wanted]

    def _add(self, rows: Sequence[PartialFactor], width: int, device: torch.device) -> Mean:
        tree = SumTree[Tensor](self._chunks, self._chunks.levels, Tensor.add_)
        tokens = [0] * HALVES
        for node, row in zip(self._nodes, rows, strict=True):
            tokens[node.half] += row.tokens
            tree.put(node, read_matrix(self._runtime, row.sha256).to(device))
        halves = [tree.found.get(Node(half, self._chunks.levels, 0)) for half in range(HALVES)]
        return mean_of_halves(halves, tokens, width)
