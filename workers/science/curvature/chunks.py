"""How a collection of curvature is cut, and how its sums are added: alike whoever collects which part of it.

Blocks are cut into chunks of consecutive blocks, as many whatever the number of workers. Even chunks are one
half of the collection, odd ones the other, so that the halves tell how far the mean has settled. The chunks
of a half are the leaves of a binary tree, and sums are added along it. Whoever collects all chunks below a
node needs to hand on nothing but that node's sum, and the root comes out in the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Self, TypeVar

HALVES: Final = 2
# Few, since each level of the tree is a set of sums in memory; enough that many workers can take part.
_MOST_CHUNKS: Final = 16
# Enough that each half has two, and that small collections spread over cores.
_FEWEST_CHUNKS: Final = 4
_CHUNK_TOKENS: Final = 8192

Sums = TypeVar("Sums")


class Node(NamedTuple):
    """A node of a half's tree: above the leaves from `place << level` to `(place + 1) << level`."""

    half: int
    level: int
    place: int


@dataclass(frozen=True)
class Chunks:
    """A collection's chunks.

    Attributes:
        blocks: blocks of the whole collection.
        size: blocks of a chunk; the last one may have fewer.
    """

    blocks: int
    size: int

    @classmethod
    def cut(cls, blocks: int, block_tokens: int) -> Self:
        """The chunks of so many blocks of so many tokens."""
        wanted = min(_MOST_CHUNKS, max(_FEWEST_CHUNKS, blocks * block_tokens // _CHUNK_TOKENS))
        return cls(blocks, -(-blocks // wanted))

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-self.blocks // self.size)

    @property
    def levels(self) -> int:
        """The level of the roots."""
        return max(0, self.leaves(0) - 1).bit_length()

    def leaves(self, half: int) -> int:
        """How many chunks a half has; the second may have none."""
        return (self.count + 1 - half) // HALVES

    def nodes(self, level: int) -> list[Node]:
        """All nodes of a level, the first half's first: one shard each, if the collection is cut at it."""
        counts = [-(-self.leaves(half) >> level) for half in range(HALVES)]
        return [Node(half, level, place) for half in range(HALVES) for place in range(counts[half])]

    def below(self, node: Node) -> list[Node]:
        """The leaves below a node."""
        first, last = node.place << node.level, (node.place + 1) << node.level
        return [Node(node.half, 0, place) for place in range(first, min(last, self.leaves(node.half)))]

    def blocks_of(self, leaf: Node) -> range:
        """The blocks of a leaf's chunk."""
        start = (HALVES * leaf.place + leaf.half) * self.size
        return range(start, min(start + self.size, self.blocks))

    def span(self, node: Node) -> range:
        """The blocks from the first to the last below a node; those of the other half lie between them."""
        leaves = self.below(node)
        return range(self.blocks_of(leaves[0]).start, self.blocks_of(leaves[-1]).stop)


class SumTree(Generic[Sums]):
    """Adds sums along the trees of both halves, in whatever order they come.

    Args:
        chunks: the collection.
        level: that of the nodes that are wanted.
        add: adds the second of two sums to the first, in place. Which of two siblings comes first changes
            no bit, since a sum of two numbers does not.

    Attributes:
        found: the sums of the nodes that are wanted, as far as they are known.
    """

    def __init__(self, chunks: Chunks, level: int, add: Callable[[Sums, Sums], object]) -> None:
        self._chunks = chunks
        self._level = level
        self._add = add
        self._waiting: dict[Node, Sums] = {}
        self.found: dict[Node, Sums] = {}

    def put(self, node: Node, sums: Sums) -> None:
        """Bring the sum of a node."""
        while node.level < self._level:
            sibling = node._replace(place=node.place ^ 1)
            if self._exists(sibling):
                if sibling not in self._waiting:
                    self._waiting[node] = sums
                    return
                first = self._waiting.pop(sibling)
                self._add(first, sums)
                sums = first
            node = Node(node.half, node.level + 1, node.place >> 1)
        self.found[node] = sums

    def _exists(self, node: Node) -> bool:
        return node.place << node.level < self._chunks.leaves(node.half)
