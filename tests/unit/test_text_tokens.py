"""The tokens of a long text: given out in pieces, shown a page at a time, and the same either way."""

import asyncio
import json
import struct
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from anyio import CapacityLimiter

from app.audits.score_schemas import TokenEvidenceOut
from app.audits.tokens import TextTokens
from app.pages.heat import MOST_TOKENS
from app.pages.views.texts import TextView, heat_context
from app.store.token_evidence import Evidence


def tokens_of(count: int, *, older: bool = False) -> TextTokens:
    """Of two characters each, the first of them with nothing before it."""
    floats = struct.pack(f"<{count}f", *(-0.1 * place for place in range(count)))
    evidence = Evidence(
        ordinal=0,
        token_ids=struct.pack(f"<{count}i", *range(count)),
        log_likelihoods=floats,
        ranks=struct.pack(f"<{count}i", *(place % 7 for place in range(count))),
        spans=struct.pack(f"<{2 * count}i", *(2 * place + end for place in range(count) for end in (0, 2))),
        means=None if older else floats,
        deviations=None if older else floats,
    )
    return TextTokens("aud_1", 'a "text"', "é\U0001d11e" * count, evidence)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 3000])
@pytest.mark.parametrize("older", [False, True])
async def test_the_pieces_of_an_answer_are_what_the_contract_says(count: int, older: bool) -> None:
    """The oracle is the contract's own serialization of all tokens at once."""
    tokens = tokens_of(count, older=older)
    whole = TokenEvidenceOut(audit="aud_1", text_id='a "text"', tokens=tokens.between(0, count))
    pieces = [piece async for piece in tokens.answer(CapacityLimiter(1))]
    assert json.loads(b"".join(pieces)) == json.loads(whole.model_dump_json())
    assert max(piece.count(b"token_id") for piece in pieces) <= 1000


async def test_pieces_are_made_a_few_at_a_time_and_a_slow_reader_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once, most, lock, fields = 0, 0, threading.Lock(), TextTokens._fields

    def count(tokens: TextTokens, start: int, stop: int) -> Any:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        made = list(fields(tokens, start, stop))
        with lock:
            at_once -= 1
        return made

    monkeypatch.setattr(TextTokens, "_fields", count)
    turns = CapacityLimiter(2)
    slow = tokens_of(3000).answer(turns)
    for _ in range(2):
        await anext(slow)

    async def read(pieces: AsyncIterator[bytes]) -> int:
        return sum([piece.count(b"token_id") async for piece in pieces])

    assert await asyncio.gather(*(read(tokens_of(2000).answer(turns)) for _ in range(6))) == [2000] * 6
    assert most == 2
    assert await read(slow) == 2000


def test_a_page_has_so_many_tokens() -> None:
    count = MOST_TOKENS + 5
    view = TextView(cast("Any", None), cast("Any", None), cast("Any", None), tokens_of(count))
    seen: list[int] = []
    for start, following in ((0, MOST_TOKENS), (MOST_TOKENS, None), (10**9, None)):
        context = heat_context(view, start)
        assert (context["total"], context["following"]) == (count, following)
        (part,) = context["parts"]
        seen += [token.place for token in part.tokens]
    assert seen == list(range(1, count + 1))
