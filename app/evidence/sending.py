"""Evidence as an HTTP answer: rendered when it is its turn, streamed where it has a part for each text."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.artifacts.conditions import is_unmodified
from app.artifacts.sending import begun
from app.evidence.format import EvidenceFormat, Piece
from app.evidence.record import EvidenceRecord
from app.rendering.pool import Renderings, RunApart
from app.signing.dsse import seal
from app.signing.keys import SigningKeys, read_signing_keys

_BLOCK_BYTES: Final = 2**16
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


async def send_evidence(
    wanted: EvidenceFormat,
    record: EvidenceRecord,
    signing_keys: Path,
    if_none_match: str | None,
    renderings: Renderings,
    *,
    head: bool,
) -> Response:
    """The answer to GET or HEAD for a document.

    Its weak `ETag` is of what the document is made from, so that nothing is rendered for who has it.

    Raises:
        SigningUnavailable: the document is signed, and there is no key.
        ServiceUnavailable: too many documents are asked for.
        RenderingTimedOut: it takes too long.
    """
    keys = None
    if wanted.payload_type is not None:
        keys = await run_in_threadpool(read_signing_keys, signing_keys)
    tag = await run_in_threadpool(_tag, wanted, record, keys)
    headers = {
        **_HEADERS,
        "ETag": f'W/"{tag}"',
        "Content-Disposition": f'attachment; filename="{wanted.stem(record)}.{wanted.suffix}"',
    }
    if is_unmodified(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    if head:
        return Response(headers=headers, media_type=wanted.media_type)
    async with renderings.turn() as run_apart:
        # Threads of the event loop's own pool: rows are read through the loop.
        document = await run_in_threadpool(_make, wanted, record, keys)
        if not isinstance(document, Iterator):
            content = await _finished(wanted, document, run_apart)
            return Response(content, headers=headers, media_type=wanted.media_type)
    body = await begun(_streamed(wanted, document, renderings))
    return StreamingResponse(body, headers=headers, media_type=wanted.media_type)


async def _finished(wanted: EvidenceFormat, piece: Piece, run_apart: RunApart) -> bytes:
    if isinstance(piece, bytes):
        return piece
    assert wanted.finish is not None
    return await run_apart(wanted.finish, piece)


async def _streamed(
    wanted: EvidenceFormat, pieces: Iterator[Piece], renderings: Renderings
) -> AsyncIterator[bytes]:
    """A turn for each piece: a slow reader keeps nobody from theirs."""
    waiting = pieces if wanted.finish else _blocks(pieces)
    while True:
        async with renderings.turn(begun=True) as run_apart:
            piece = await run_in_threadpool(next, waiting, None)
            if piece is None:
                return
            finished = await _finished(wanted, piece, run_apart)
        yield finished


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces put together, as each that is sent costs a change of threads."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= _BLOCK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _make(
    wanted: EvidenceFormat, record: EvidenceRecord, keys: SigningKeys | None
) -> Piece | Iterator[Piece]:
    document = wanted.render(record)
    if wanted.payload_type is None or keys is None:
        return document
    return seal(wanted.payload_type, document if isinstance(document, bytes) else b"".join(document), keys)


def _tag(wanted: EvidenceFormat, record: EvidenceRecord, keys: SigningKeys | None) -> str:
    made_from = hashlib.sha256(record.canonical())
    made_from.update(f"{wanted.name} {keys.public[0].key_id if keys else ''}".encode())
    return made_from.hexdigest()
