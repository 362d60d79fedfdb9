"""Evidence as an HTTP answer: rendered in a thread, streamed where it has a part for each text."""

import hashlib
from typing import Final

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from app.artifacts.conditions import is_unmodified
from app.artifacts.sending import begun
from app.evidence.format import EvidenceFormat
from app.evidence.record import EvidenceRecord

_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}


async def send_evidence(
    wanted: EvidenceFormat, record: EvidenceRecord, if_none_match: str | None, *, head: bool
) -> Response:
    """The answer to GET or HEAD for a document.

    Its weak `ETag` is of what the document is made from, so that nothing is rendered for who has it.
    """
    tag = hashlib.sha256(f"{wanted.name}\n".encode() + record.canonical()).hexdigest()
    headers = {
        **_HEADERS,
        "ETag": f'W/"{tag}"',
        "Content-Disposition": f'attachment; filename="{record.id}.{wanted.suffix}"',
    }
    if is_unmodified(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    if head:
        return Response(headers=headers, media_type=wanted.media_type)
    # Threads of the event loop's own pool: rows are read through the loop.
    document = await run_in_threadpool(wanted.render, record)
    if isinstance(document, bytes):
        return Response(document, headers=headers, media_type=wanted.media_type)
    body = await begun(iterate_in_threadpool(document))
    return StreamingResponse(body, headers=headers, media_type=wanted.media_type)
