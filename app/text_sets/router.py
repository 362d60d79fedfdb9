"""`/v1/text-sets`."""

from asyncio import Semaphore, to_thread
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from app.contracts.base import Name
from app.errors import BadRequest, ServiceUnavailable, SigningUnavailable
from app.http.changes import Resource
from app.http.dependencies import (
    AuditReader,
    AuditWriter,
    ChangesDependency,
    DoorbellDependency,
    OptionalIdempotencyKey,
    PageCursor,
    PageLimit,
    SettingsDependency,
    StoreDependency,
    WaitSeconds,
    read_id,
    require_still,
)
from app.http.filters import METADATA_PARAMETER, MetadataQuery, NameQuery, PresetQuery
from app.http.json_body import bounded, require_plain
from app.http.long_running import add_follow_headers, answer_when_ended
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.intake.formats import READERS
from app.sealing.spool import spooled
from app.settings import CPU_QUEUE
from app.signing.keys import signing_keys_if_any
from app.store.core.identifiers import Prefix
from app.store.deletion import get_receipt
from app.store.text_sets import TextSetFilter, TextSetStatus
from app.text_sets import service
from app.text_sets.schemas import TextOut, TextSetCreate, TextSetImport, TextSetOut, TextSetReceipt
from app.text_sets.submission import JSON_MEDIA_TYPE, open_submission, read_media_type, receive

RECEIPT_MEDIA_TYPE: Final = "application/vnd.in-toto.erasure+dsse"
router = APIRouter(prefix="/v1/text-sets", tags=["text sets"])


def _request_body() -> dict[str, Any]:
    """How OpenAPI shows a body that is streamed past FastAPI."""
    documents = [
        contract.model_json_schema(ref_template="#/components/schemas/{model}")
        for contract in (TextSetCreate, TextSetImport)
    ]
    for document in documents:
        del document["$defs"]  # JsonValue, which is a component of its own
    content: dict[str, Any] = {JSON_MEDIA_TYPE: {"schema": {"anyOf": documents}}}
    content |= {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in READERS}
    return {"requestBody": {"required": True, "content": content}}


_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": TextSetOut, "description": "Accepted: a worker fetches the texts of a preset."}
}


@router.post(
    "",
    status_code=201,
    responses=_ACCEPTED | problem_responses(400, 409, 415),
    openapi_extra=_request_body(),
)
async def create_text_set(
    request: Request,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    doorbell: DoorbellDependency,
    response: Response,
    key: OptionalIdempotencyKey = None,
    name: Annotated[Name | None, Query()] = None,
) -> TextSetOut:
    """Store a text set: one JSON document, or a stream of records as JSON lines, CSV or Parquet.

    A stream is named by `name` in the query. A record has the fields of a text in the JSON document; CSV and
    Parquet have a column for each field that is used. In CSV an empty cell is an absent value, and
    `duplicates`, `member`, `choices`, `answer` and `metadata` hold JSON. A text without an `id` is called by
    its place in the set, from 0. The set is stored whole or not at all: `errors` points at texts
    (`/texts/0/…`), lines (`/lines/1/…`) or rows of a Parquet file (`/rows/0/…`).

    A document with a `preset` instead of texts needs an Idempotency-Key and is answered 202: a worker
    fetches them from the hub. Follow `status` until `ready` or `failed`.
    Each such request fetches what the preset's revision names now.
    """
    require_plain(request)
    media_type = read_media_type(request.headers.get("content-type", ""))
    limit = settings.max_json_bytes if media_type == JSON_MEDIA_TYPE else settings.max_upload_bytes
    if principal.quotas.upload_bytes is not None:
        limit = min(limit, principal.quotas.upload_bytes)
    with spooled() as spool:
        try:
            file, sha256 = await receive(bounded(request.stream(), limit), spool)
        except ClientDisconnect:
            raise BadRequest("The connection ended before the body did.") from None
        submission = await to_thread(
            open_submission,
            file,
            media_type=media_type,
            name=name,
            sha256=sha256,
            max_record=settings.max_json_bytes,
        )
        await require_still(request)  # the body may have taken long
        if isinstance(submission, TextSetImport):
            text_set = await store.run(service.request_import, principal, key, submission)
            doorbell.ring(CPU_QUEUE)
            add_follow_headers(response, f"/v1/text-sets/{text_set.id}")
            response.status_code = 202
            return text_set
        writers: Semaphore = request.app.state.text_set_writers
        if writers.locked():
            raise ServiceUnavailable("Too many text sets are being stored now; repeat the request later.")
        async with writers:
            text_set = await store.run_long(service.create, principal, key, submission, settings)
    response.headers["Location"] = f"/v1/text-sets/{text_set.id}"
    return text_set


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_text_sets(
    principal: AuditReader,
    metadata: MetadataQuery,
    store: StoreDependency,
    name: NameQuery = None,
    status: TextSetStatus | None = None,
    preset: PresetQuery = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[TextSetOut]:
    """List text sets, newest first; of a name, a status, a preset, with some metadata."""
    wanted = TextSetFilter(name=name, status=status, preset=preset, metadata=metadata)
    return await store.run(service.list_page, principal.tenant_id, wanted, limit, cursor)


@router.get("/{text_set_id}")
async def read_text_set(
    text_set_id: str,
    principal: AuditReader,
    store: StoreDependency,
    changes: ChangesDependency,
    response: Response,
    wait: WaitSeconds = 0,
) -> TextSetOut:
    """Read a text set; its texts are listed apart.

    With `wait`, the answer comes when it is importing no more, or after that many seconds.
    """
    identifier = read_id(Prefix.TEXT_SET, text_set_id)
    return await answer_when_ended(
        changes,
        Resource(principal.tenant_id, identifier),
        lambda: store.run(service.read, principal.tenant_id, identifier),
        response,
        seconds=wait,
    )


@router.get("/{text_set_id}/texts", responses=problem_responses(409))
async def list_texts(
    text_set_id: str,
    principal: AuditReader,
    store: StoreDependency,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: PageCursor = None,
) -> Page[TextOut]:
    """List the texts of a set, in order. A page of long texts holds fewer than `limit`."""
    identifier = read_id(Prefix.TEXT_SET, text_set_id)
    return await store.run(service.texts_page, principal, identifier, limit, cursor)


_RECEIPT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A DSSE envelope.",
        "content": {RECEIPT_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.delete("/{text_set_id}", responses=problem_responses(409))
async def erase(
    text_set_id: str, principal: AuditWriter, store: StoreDependency, settings: SettingsDependency
) -> TextSetReceipt:
    """Erase a text set, the token evidence made from it and their key; the signed receipt proves it.

    Scores stay. A set that unfinished work needs answers 409.
    """
    keys = await to_thread(signing_keys_if_any, settings.signing_keys_directory)
    identifier = read_id(Prefix.TEXT_SET, text_set_id)
    return await store.run_long(service.erase, principal, identifier, keys)


@router.get("/{text_set_id}/receipt", response_class=Response, responses=_RECEIPT)
async def read_receipt(
    text_set_id: str, principal: AuditReader, store: StoreDependency, settings: SettingsDependency
) -> Response:
    """Download the receipt of a text set that was erased or has expired, for `memaudit verify`."""
    keys = await to_thread(signing_keys_if_any, settings.signing_keys_directory)
    identifier = read_id(Prefix.TEXT_SET, text_set_id)
    receipt = await store.run(get_receipt, principal.tenant_id, identifier, keys)
    if receipt.envelope is None:
        raise SigningUnavailable(
            "The texts were erased, but this instance has no key to sign the receipt with. Whoever runs it "
            "can make one: `memaudit keys rotate-signing`."
        )
    return Response(receipt.envelope, media_type=RECEIPT_MEDIA_TYPE)
