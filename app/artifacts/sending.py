"""Answering with a file: its headers, its conditions, its bytes."""

from collections.abc import AsyncIterator
from posixpath import basename
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from app.artifacts.conditions import Selection, etag_of, is_unmodified, require_match, select_range
from app.artifacts.service import Member
from app.errors import RangeNotSatisfiable
from app.http.dependencies import HEADER_CHARS, ConditionHeader
from app.http.problems import answer_problem, problem_responses
from app.store.blobs.reading import stream_range
from app.store.core.identifiers import Prefix, format_id
from app.store.core.unit_of_work import Store
from app.store.tenants import Principal
from app.store.trail import Action, record_request

BINARY: Final = "application/octet-stream"
SVG: Final = "image/svg+xml"

# As a page of its own it could do nothing, and nothing is taken for what it is not said to be.
_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"}
_CONTENT: Final[dict[str, dict[str, Any]]] = {BINARY: {}, SVG: {}}

FILE_RESPONSES: Final[dict[int | str, dict[str, Any]]] = problem_responses(412, 416, 500) | {
    200: {"description": "The file", "content": _CONTENT},
    206: {"description": "A part of the file", "content": _CONTENT},
    304: {"description": "The client has the file already"},
}


class Conditions:
    """The headers of a request that make it conditional or partial."""

    def __init__(
        self,
        request: Request,
        range_: Annotated[str | None, Header(alias="Range", max_length=HEADER_CHARS)] = None,
        if_range: ConditionHeader = None,
        if_match: ConditionHeader = None,
        if_none_match: ConditionHeader = None,
    ) -> None:
        self.request = request
        self.range = range_
        self.if_range = if_range
        self.if_match = if_match
        self.if_none_match = if_none_match


FileConditions = Annotated[Conditions, Depends()]


async def send_file(
    store: Store,
    principal: Principal,
    member: Member,
    conditions: Conditions,
    extra: dict[str, str] | None = None,
) -> Response:
    """The answer to GET or HEAD for a file.

    Raises:
        PreconditionFailed: the file is not the one that the client means.
        ArtifactCorrupt: the first bytes asked for are not what was put. When later ones are not, the answer
            breaks off before them.
    """
    file, blob = member
    headers = {"ETag": etag_of(file.sha256), "Accept-Ranges": "bytes", **(extra or {})}
    require_match(conditions.if_match, file.sha256)
    if is_unmodified(conditions.if_none_match, file.sha256):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{basename(file.path)}"'
    is_head = conditions.request.method == "HEAD"
    try:
        # A range has a meaning for GET only.
        wanted = None if is_head else conditions.range
        selection = select_range(wanted, conditions.if_range, file.sha256, file.size)
    except RangeNotSatisfiable as error:
        refused = {**(extra or {}), "Content-Range": f"bytes */{error.size}"}
        return answer_problem(conditions.request, error, refused)
    headers |= _HEADERS | _length_headers(selection, file.size)
    media_type = SVG if file.path.endswith(".svg") else BINARY
    if is_head:
        return Response(headers=headers, media_type=media_type)
    public_id = format_id(Prefix.ARTIFACT, file.artifact_id)
    await store.run(record_request, principal, Action.ARTIFACT_DOWNLOADED, public_id, {"files": file.path})
    body = await begun(stream_range(store, blob, selection.start, selection.stop))
    return StreamingResponse(body, 206 if selection.partial else 200, headers, media_type)


async def begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, of which the first was read: what is wrong with it can still be answered."""
    first = await anext(chunks, b"")

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return rest()


def _length_headers(selection: Selection, size: int) -> dict[str, str]:
    headers = {"Content-Length": str(selection.stop - selection.start)}
    if selection.partial:
        headers["Content-Range"] = f"bytes {selection.start}-{selection.stop - 1}/{size}"
    return headers
