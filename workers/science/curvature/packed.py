"""Symmetric matrices as the panels of their block upper triangle, laid end to end.

Shapes: D rows and columns; a panel is [rows of a diagonal block, columns from that block on]. Six panels take
7/12 of the memory and of the products of the whole matrix.
"""

import torch
from torch import Tensor

_BLOCKS = 6
_SMALLEST_BLOCK = 128


def packed_size(width: int) -> int:
    """Numbers in the packed form of a matrix [width, width]."""
    return sum((block.stop - block.start) * (width - block.start) for block in _diagonal(width))


def panels(packed: Tensor, width: int) -> list[Tensor]:
    """Views of a packed matrix's panels."""
    shapes = [(block.stop - block.start, width - block.start) for block in _diagonal(width)]
    parts = torch.split(packed, [rows * columns for rows, columns in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def add_products(packed: Tensor, rows: Tensor) -> None:
    """Add rows^T rows, [D, D] of rows [N, D], in place."""
    width = rows.shape[1]
    for panel, block in zip(panels(packed, width), _diagonal(width), strict=True):
        panel.addmm_(rows[:, block].T, rows[:, block.start :])


def unpack(packed: Tensor, width: int) -> Tensor:
    """The whole matrix [width, width], both triangles filled."""
    matrix = packed.new_empty(width, width)
    for panel, block in zip(panels(packed, width), _diagonal(width), strict=True):
        matrix[block, block.start :] = panel
        matrix[block.stop :, block] = panel[:, len(panel) :].T
    return matrix


def squared_norm(packed: Tensor, width: int) -> float:
    """The squared Frobenius norm of a matrix [width, width], summed in float64."""
    return sum(map(_squared_norm_of_panel, panels(packed, width)))


def squared_distance(first: Tensor, second: Tensor, times: float, width: int) -> float:
    """The squared Frobenius norm of `first` minus `times` the second, both packed: a panel at a time."""
    pairs = zip(panels(first, width), panels(second, width), strict=True)
    return sum(_squared_norm_of_panel(mine.sub(theirs, alpha=times)) for mine, theirs in pairs)


def _squared_norm_of_panel(panel: Tensor) -> float:
    """That of what a panel stands for: right of the diagonal's block, for two parts of the matrix."""
    own, others = panel[:, : len(panel)], panel[:, len(panel) :]
    norms = [float(torch.linalg.vector_norm(part, dtype=torch.float64)) for part in (own, others)]
    return norms[0] ** 2 + 2 * norms[1] ** 2


def _diagonal(width: int) -> list[slice]:
    """The diagonal's blocks: enough of them to save almost half of the work, none too small to be fast."""
    step = max(_SMALLEST_BLOCK, -(-width // _BLOCKS))
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]
