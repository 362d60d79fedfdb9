"""Hooks that add up outer products of a projection's inputs and output gradients.

Shapes: N predicting positions of a batch, D inputs or outputs of a projection, P places of a batch.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from workers.science.curvature.packed import add_products, packed_size
from workers.science.curvature.tensor_cores import lossless_tensor_cores
from workers.science.models.projections import Projection


@dataclass
class FactorSums:
    """Sums of outer products, float32 and packed (see `packed`).

    Attributes:
        activations: by module path, for modules that no earlier module shares its input with.
        gradients: by projection key.
        sources: for each module path the one whose input it shares, or itself.
        tokens: predicting positions that were added.
    """

    activations: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    tokens: int = 0

    @staticmethod
    def bytes_for(projections: Sequence[Projection]) -> int:
        """Memory of the sums of these projections, at most."""
        sizes = (packed_size(width) for projection in projections for width in projection.weight.shape)
        return 4 * sum(sizes)

    def add(self, other: "FactorSums") -> None:
        """Add other sums in place. What only those had is taken from them."""
        for mine, theirs in ((self.activations, other.activations), (self.gradients, other.gradients)):
            for name in list(theirs):
                mine[name] = mine[name].add_(theirs[name]) if name in mine else theirs.pop(name)
        self.sources.update(other.sources)
        self.tokens += other.tokens

    def clear(self) -> None:
        """Begin again at zero in the same memory."""
        for matrix in (*self.activations.values(), *self.gradients.values()):
            matrix.zero_()
        self.tokens = 0


@dataclass
class _Batch:
    """What the hooks know of the batch in flight: its predicting positions [N] among P, and its sums."""

    positions: Tensor
    sums: FactorSums
    last_path: str = ""
    last_input: Tensor | None = None


class Recorder:
    """Hooks on the projections' modules, removed on exit; they are idle outside `recording`.

    Each thread records a batch of its own.
    """

    def __init__(self, projections: Sequence[Projection]) -> None:
        self._projections: dict[str, list[Projection]] = {}
        for projection in projections:
            self._projections.setdefault(projection.path, []).append(projection)
        self._thread = threading.local()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for path, projections in self._projections.items():
            self._handles.append(projections[0].module.register_forward_hook(self._forward_hook(path)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def recording(self, positions: Tensor, sums: FactorSums) -> Iterator[None]:
        """Add what this thread's forward pass and its backward pass bring to `sums`."""
        batch = self._thread.batch = _Batch(positions, sums)
        try:
            yield
        finally:
            self._thread.batch = batch.last_input = None

    def _forward_hook(self, path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            batch: _Batch | None = getattr(self._thread, "batch", None)
            if batch is None:
                return
            _add_activations(batch, path, inputs[0])
            if not output.requires_grad:  # the first projections: the graph begins here
                output.requires_grad_()
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._add_gradients(batch, path, gradient)
            )

        return record

    def _add_gradients(self, batch: _Batch, path: str, gradient: Tensor) -> None:
        rows = gradient.flatten(0, -2)[batch.positions.to(gradient.device)]
        for projection in self._projections[path]:
            part = rows if projection.rows is None else rows[:, projection.rows]
            _add_products(batch.sums.gradients, projection.key, part)


def _add_activations(batch: _Batch, path: str, inputs: Tensor) -> None:
    """Add the outer products of a module's inputs, unless the module before it had the same inputs."""
    if inputs is not batch.last_input:
        batch.last_path, batch.last_input = path, inputs
        positions = batch.positions.to(inputs.device)  # a layer may be on another GPU
        _add_products(batch.sums.activations, path, inputs.detach().flatten(0, -2)[positions])
    batch.sums.sources[path] = batch.last_path


@torch.no_grad()
def _add_products(totals: dict[str, Tensor], name: str, rows: Tensor) -> None:
    """Add the outer products of rows [N, D] to a total."""
    dtype, rows = rows.dtype, rows.float()
    if name not in totals:
        totals[name] = rows.new_zeros(packed_size(rows.shape[1]))
    with lossless_tensor_cores(dtype):
        add_products(totals[name], rows)
