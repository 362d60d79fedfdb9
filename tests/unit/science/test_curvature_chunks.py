"""A collection in parts: its bits hang not on the parts, and its halves tell how far it has settled."""

import random

import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.curvature import collection
from workers.science.curvature.chunks import Chunks, Node, SumTree
from workers.science.curvature.collection import Part, collect_sums
from workers.science.curvature.factor_hooks import FactorSums
from workers.science.curvature.kfac import collect_factors, mean_of_halves
from workers.science.curvature.packed import (
    add_products,
    packed_size,
    panels,
    squared_distance,
    squared_norm,
    unpack,
)
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import pack_texts


@pytest.fixture(scope="module")
def blocks(llama):
    """33 blocks, of which the last is padded."""
    packed = pack_texts(llama, english_sentences()[:24], block_tokens=48)
    return packed.part(slice(len(packed) - 33, None))


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def roots_of_parts(language_model, blocks, chunks, level, projections):
    """The roots as a last job finds them: each node alone, of no more blocks than it spans, in any order."""
    tree = SumTree(chunks, chunks.levels, FactorSums.add)
    nodes = chunks.nodes(level)
    random.Random(level).shuffle(nodes)
    for node in nodes:
        span = chunks.span(node)
        part = Part(chunks, [node], blocks.part(slice(span.start, span.stop)), span.start)
        (sums,) = collect_sums(language_model, part, projections, batch_blocks=2, seed=7).values()
        tree.put(node, sums)
    return [tree.found[node] for node in chunks.nodes(chunks.levels)]


@pytest.mark.parametrize("memory", [2**28, 0])
def test_one_two_and_five_parts_give_the_same_bits(llama, blocks, threads, memory, monkeypatch):
    """With room for several lanes, and for one alone that uses all threads."""
    monkeypatch.setattr(collection, "_LANE_BYTES", memory)
    projections = find_projections(llama.model, layers=[0, 1])
    chunks = Chunks(len(blocks), 4)
    assert [len(chunks.nodes(level)) for level in range(chunks.levels + 1)] == [9, 5, 3, 2]
    part = Part.whole(blocks, chunks)
    sums = collect_sums(llama, part, projections, batch_blocks=2, seed=7)
    whole = [sums[node] for node in part.nodes]
    for level in (0, 1, chunks.levels):
        for mine, theirs in zip(
            whole, roots_of_parts(llama, blocks, chunks, level, projections), strict=True
        ):
            assert mine.tokens == theirs.tokens
            for name in ("activations", "gradients"):
                first, second = getattr(mine, name), getattr(theirs, name)
                assert first.keys() == second.keys()
                assert all(torch.equal(first[key], second[key]) for key in first)


def test_another_cut_gives_other_bits_but_the_same_factors(llama, blocks):
    """So that the test above could fail: sums of floating-point numbers do hang on their order."""
    projections = find_projections(llama.model, layers=[0])
    first, second = (
        collect_factors(llama, blocks, projections, seed=7, chunks=Chunks(len(blocks), size))
        for size in (4, 5)
    )
    differ = [not torch.equal(first[key].gradients, second[key].gradients) for key in first]
    assert any(differ)
    for key in first:
        torch.testing.assert_close(first[key].gradients, second[key].gradients, rtol=1e-4, atol=1e-6)


def nested(leaves):
    """The tree by its definition: split at the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return frozenset([nested(leaves[:middle]), nested(leaves[middle:])])


@pytest.mark.parametrize("count", range(1, 17))
def test_sums_come_in_any_order_and_are_added_along_one_tree(count):
    chunks = Chunks(blocks=3 * count - 1, size=3)
    assert chunks.count == count
    expected = [nested(list(range(half, count, 2))) for half in range(min(2, count))]
    for level in range(chunks.levels + 1):
        trees = []
        for tree_level, nodes in ((level, chunks.nodes(0)), (chunks.levels, chunks.nodes(level))):
            # Sums in place, as boxes that hold what was added to what.
            tree = SumTree(
                chunks, tree_level, lambda one, two: one.__setitem__(0, frozenset([one[0], two[0]]))
            )
            random.Random(count).shuffle(nodes)
            for node in nodes:
                start = [chunks.blocks_of(node).start // 3] if not trees else trees[0].found[node]
                tree.put(node, start)
            trees.append(tree)
        assert [trees[1].found[node][0] for node in chunks.nodes(chunks.levels)] == expected


@pytest.mark.parametrize(
    ("blocks", "block_tokens"), [(1, 512), (3, 512), (16, 512), (400, 512), (40_000, 512)]
)
def test_every_block_is_below_one_node_of_each_level(blocks, block_tokens):
    chunks = Chunks.cut(blocks, block_tokens)
    assert chunks.count <= 16
    for level in range(chunks.levels + 1):
        below = [
            block
            for node in chunks.nodes(level)
            for leaf in chunks.below(node)
            for block in chunks.blocks_of(leaf)
        ]
        assert sorted(below) == list(range(blocks))
        for node in chunks.nodes(level):
            span = chunks.span(node)
            assert all(set(chunks.blocks_of(leaf)) <= set(span) for leaf in chunks.below(node))
            assert span.stop - span.start <= 2 * chunks.size << level


@pytest.mark.parametrize("width", [1, 7, 128, 129, 1000])
def test_a_packed_matrix_is_the_whole_one(width):
    generator = torch.Generator().manual_seed(width)
    rows, others = (torch.randn(20, width, generator=generator) for _ in range(2))
    packed, other = torch.zeros(packed_size(width)), torch.zeros(packed_size(width))
    for _ in range(2):
        add_products(packed, rows)
    add_products(other, others)
    exact, exact_other = (each.double().T @ each.double() for each in (rows, others))
    assert sum(panel.numel() for panel in panels(packed, width)) == len(packed)
    whole = unpack(packed, width)
    torch.testing.assert_close(whole.double(), 2 * exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole, whole.T)
    assert squared_norm(packed, width) == pytest.approx(float((2 * exact).square().sum()), rel=1e-5)
    apart = float((2 * exact - 3 * exact_other).square().sum())
    assert squared_distance(packed, other, 3.0, width) == pytest.approx(apart, rel=1e-4)


def packed_products(rows):
    packed = torch.zeros(packed_size(rows.shape[1]))
    add_products(packed, rows)
    return packed


def test_the_error_of_a_mean_is_that_of_two_groups():
    """By its definition in float64, for halves of unlike size: 30 and 10 rows."""
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    mean, error = mean_of_halves([packed_products(rows[:30]), packed_products(rows[30:])], [30, 10], 5)
    first, second, whole = (
        each.double().T @ each.double() / len(each) for each in (rows[:30], rows[30:], rows)
    )
    torch.testing.assert_close(mean.double(), whole, rtol=1e-5, atol=1e-6)
    exact = (0.75 * 0.25) ** 0.5 * (first - second).norm() / whole.norm()
    assert error == pytest.approx(float(exact), rel=1e-5)


def test_the_error_estimates_the_distance_from_the_mean_of_endless_text():
    """Independent normal rows of unit variance, whose mean outer product is the identity."""
    generator = torch.Generator().manual_seed(1)
    estimated = actual = 0.0
    for _ in range(400):
        rows = torch.randn(200, 6, generator=generator)
        mean, error = mean_of_halves([packed_products(rows[:120]), packed_products(rows[120:])], [120, 80], 6)
        assert error is not None
        estimated += (error * float(mean.norm())) ** 2
        actual += float((mean - torch.eye(6)).square().sum())
    # The expectation of both, 42 / 200, is met to 7 % of it by 400 trials.
    assert estimated / 400 == pytest.approx(42 / 200, rel=0.07)
    assert actual / 400 == pytest.approx(42 / 200, rel=0.07)


def test_more_text_settles_and_one_half_tells_nothing(llama, blocks):
    projections = find_projections(llama.model, layers=[0], roles=["up"])
    (few,) = collect_factors(llama, blocks.part(slice(0, 4)), projections).values()
    (many,) = collect_factors(llama, blocks, projections).values()
    assert 0 < many.gradients_error < few.gradients_error
    assert 0 < many.activations_error < few.activations_error
    (one,) = collect_factors(llama, blocks.part(slice(0, 1)), projections).values()
    assert one.gradients_error is one.activations_error is None


def test_a_node_is_named_by_where_it_is():
    assert Chunks(10, 1).below(Node(1, 1, 1)) == [Node(1, 0, 2), Node(1, 0, 3)]
    assert [list(Chunks(10, 1).blocks_of(leaf)) for leaf in Chunks(10, 1).below(Node(1, 1, 1))] == [[5], [7]]
