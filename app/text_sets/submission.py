"""Receiving an upload into a sealed temporary file, and opening it as a name and a stream of rows.

The body is received whole before anything else, so a slow client holds no transaction open, a client that
goes away leaves nothing behind, and every format can be read from a file.
"""

import hashlib
from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, BinaryIO, Final

from pydantic import BaseModel, ValidationError

from app.contracts.refusals import validation_problem
from app.errors import BadRequest, FieldError, ServiceUnavailable, UnsupportedMediaType, ValidationFailed
from app.http.json_body import read_json
from app.intake.formats import READERS, Row
from app.sealing.spool import Spool
from app.text_sets.schemas import TextSetCreate, TextSetImport

JSON_MEDIA_TYPE: Final = "application/json"


class UploadFingerprint(BaseModel):
    """What makes two uploads the same request."""

    media_type: str
    name: str | None
    sha256: str


@dataclass(frozen=True)
class Submission:
    """A text set to be stored, its texts not yet read."""

    name: str
    metadata: dict[str, Any]
    rows: Iterator[Row]
    fingerprint: UploadFingerprint


def read_media_type(content_type: str) -> str:
    """The media type of a Content-Type header.

    Raises:
        UnsupportedMediaType: a text set cannot be read from it.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != JSON_MEDIA_TYPE and media_type not in READERS:
        raise UnsupportedMediaType(f"Send {JSON_MEDIA_TYPE} or one of {', '.join(READERS)} as Content-Type.")
    return media_type


async def receive(chunks: AsyncIterator[bytes], spool: Spool) -> tuple[BinaryIO, str]:
    """Write a body to a spool.

    Returns:
        What reads it from its start, and its SHA-256.

    Raises:
        ServiceUnavailable: the disk for temporary files is full.
    """
    digest = hashlib.sha256()
    try:
        async for chunk in chunks:
            digest.update(chunk)
            await to_thread(spool.write, chunk)
        file = await to_thread(spool.reader)
    except OSError:
        raise ServiceUnavailable(
            "There is no room to receive the body now; repeat the request later."
        ) from None
    return file, digest.hexdigest()


def open_submission(
    file: BinaryIO, *, media_type: str, name: str | None, sha256: str, max_record: int
) -> Submission | TextSetImport:
    """Open a received body. Streams take their name from the query, JSON from the document.

    A document that names a preset has no texts: it asks for an import.

    Raises:
        BadRequest: the body is not strict JSON.
        ValidationFailed: the document breaks the contract, or the name is missing or given twice.
    """
    fingerprint = UploadFingerprint(media_type=media_type, name=name, sha256=sha256)
    if media_type == JSON_MEDIA_TYPE:
        document = _read_document(file, name)
        if isinstance(document, TextSetImport):
            return document
        rows: Iterator[Row] = ((f"/texts/{place}", raw) for place, raw in enumerate(document.texts))
        return Submission(document.name, document.metadata, rows, fingerprint)
    if name is None:
        raise ValidationFailed(
            "Name the text set in the query: ?name=…", [FieldError(pointer="/name", code="missing")]
        )
    return Submission(name, {}, READERS[media_type](file, max_record), fingerprint)


def _read_document(file: BinaryIO, name: str | None) -> TextSetCreate | TextSetImport:
    if name is not None:
        raise ValidationFailed(
            "A JSON document names its text set itself; leave the name out of the query.",
            [FieldError(pointer="/name", code="extra_forbidden")],
        )
    try:
        document = read_json(file.read())
    except JSONDecodeError:
        raise BadRequest.no_strict_json() from None
    is_import = isinstance(document, dict) and "preset" in document
    contract: type[TextSetCreate | TextSetImport] = TextSetImport if is_import else TextSetCreate
    if isinstance(document, dict) and len(document) > len(contract.model_fields):
        # Pydantic would build an error for each of what may be millions.
        raise ValidationFailed(
            f"A text set has the fields {', '.join(contract.model_fields)}.",
            [FieldError(pointer="", code="extra_forbidden")],
        )
    try:
        return contract.model_validate(document)
    except ValidationError as error:
        raise validation_problem(error.errors(), skip=0) from None
