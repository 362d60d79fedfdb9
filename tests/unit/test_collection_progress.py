"""How a collection of curvature is cut into shards, and what an edit tells that waits for them."""

import pytest

from app.contracts.edit_methods import METHODS
from app.contracts.edit_methods.registry import COLLECTING
from workers.edits.partial_sums import Cut
from workers.edits.progress import EditProgress
from workers.running.lease_keeper import LeaseKeeper


def test_an_edit_that_goes_on_begins_where_its_shards_ended() -> None:
    told: list[tuple[int, str | None]] = []

    class Keeper(LeaseKeeper):
        def __init__(self) -> None:
            """Without a lease."""

        def report(self, done: int, *, stage: str | None = None) -> None:
            told.append((done, stage))

    progress = EditProgress(Keeper(), METHODS["kfac"].stages, already=40)
    for stage in ("loading", COLLECTING, "decomposing", "writing"):
        progress.enter(stage)
    assert told == [(40, "loading"), (40, COLLECTING), (40, "decomposing"), (65, "writing")]


@pytest.mark.parametrize(("tokens", "shards"), [(1, 16), (40_000, 8), (10**6, 2)])
def test_shards_have_so_many_tokens_at_least_where_there_are_as_many(tokens: int, shards: int) -> None:
    """Of 400 blocks of 1,024 tokens in 16 chunks: one node of the tree each, 2 to 16 of them."""
    assert len(Cut.of(400, 1024, tokens).shards) == shards
