"""The tokens behind the score of a text: millions in the longest, so they are made as they are read."""

import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from anyio import CapacityLimiter, to_thread

from app.audits.score_schemas import Token, TokenEvidenceOut
from app.store.token_evidence import Evidence

# A millisecond of work.
_PIECE_TOKENS: Final = 1000


@dataclass(frozen=True)
class TextTokens:
    """The tokens of a text of an audit.

    Attributes:
        audit: the id of the audit.
        text_id: of the text in its set.
        text: which their spans are of.
        evidence: packed, as it was stored.
    """

    audit: str
    text_id: str
    text: str
    evidence: Evidence

    def __len__(self) -> int:
        return len(self.evidence.token_ids) // 4

    def between(self, start: int, stop: int) -> list[Token]:
        """The tokens from place `start` to before `stop`, places counted from 0."""
        return [Token(**fields) for fields in self._fields(start, stop)]

    async def answer(self, turns: CapacityLimiter) -> AsyncIterator[bytes]:
        """A `TokenEvidenceOut` as JSON, piece by piece, each made in a thread when it has its turn."""
        pieces = self._pieces()
        while piece := await to_thread.run_sync(next, pieces, b"", limiter=turns):
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        empty = TokenEvidenceOut(audit=self.audit, text_id=self.text_id, tokens=[])
        yield empty.model_dump_json().encode().removesuffix(b"]}")
        for start in range(0, len(self), _PIECE_TOKENS):
            tokens = orjson.dumps(list(self._fields(start, start + _PIECE_TOKENS)))
            yield (b"," if start else b"") + tokens[1:-1]
        yield b"]}"

    def _fields(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """What the tokens of some places say, each by the names of a `Token`."""
        evidence = self.evidence
        start, stop = min(start, len(self)), min(stop, len(self))

        def items(packed: bytes, code: str, each: int = 1) -> tuple[Any, ...]:
            return struct.unpack_from(f"<{each * (stop - start)}{code}", packed, 4 * each * start)

        means, deviations = (
            (None,) * (stop - start) if packed is None else items(packed, "f")
            for packed in (evidence.means, evidence.deviations)
        )
        spans = items(evidence.spans, "i", 2)
        for token_id, log_likelihood, rank, mean, deviation, begin, end in zip(
            items(evidence.token_ids, "i"),
            items(evidence.log_likelihoods, "f"),
            items(evidence.ranks, "i"),
            means,
            deviations,
            spans[::2],
            spans[1::2],
            strict=True,
        ):
            yield {
                "token_id": token_id,
                "text": self.text[begin:end],
                "start": begin,
                "end": end,
                # No rank: nothing stood before the token, so it is not scored.
                "log_likelihood": log_likelihood if rank else None,
                "rank": rank or None,
                "matched": rank == 1 if rank else None,
                "mean": mean if rank else None,
                "deviation": deviation if rank else None,
            }
