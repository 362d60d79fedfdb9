"""`/v1/{audits,studies,edits,gates}/{id}/evidence`: what finished work shows, as other tools read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.evidence import service
from app.evidence.controls import read_control_mappings
from app.evidence.record import SubjectKind
from app.evidence.registry import FORMATS
from app.evidence.schemas import EvidenceFormatOut, SigningKeyOut, SigningKeysOut
from app.evidence.sending import send_evidence
from app.http.dependencies import (
    ConditionHeader,
    RenderingsDependency,
    RequireScope,
    SettingsDependency,
    StoreDependency,
    read_id,
    require_scope,
)
from app.http.json_body import StrictJSONRoute
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.signing.keys import can_sign, read_signing_keys, to_json_web_key
from app.store.tenants import Principal

TEXTS_SCOPE: Final = "audit:evidence"
KEYS_PATH: Final = "/.well-known/memaudit-keys.json"


@dataclass(frozen=True, slots=True)
class _Routes:
    """Where a kind of work is, and which scopes reading its evidence takes."""

    plural: str
    scopes: tuple[str, ...] = ("audit:read",)


_ROUTES: Final[Mapping[SubjectKind, _Routes]] = MappingProxyType(
    {
        SubjectKind.AUDIT: _Routes("audits"),
        SubjectKind.STUDY: _Routes("studies"),
        # It holds rows of audits.
        SubjectKind.EDIT: _Routes("edits", ("edit:read", "audit:read")),
        SubjectKind.GATE: _Routes("gates"),
    }
)
_DOCUMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The document.",
        "content": {
            each.media_type: {"schema": {"type": "string", "format": "binary"}} for each in FORMATS.values()
        },
    },
    304: {"description": "The document is the one that If-None-Match names."},
}

Texts = Annotated[
    Literal["redacted", "full"],
    Query(description=f"`full`: with the texts themselves, for a key with the scope `{TEXTS_SCOPE}`."),
]


def _routes_of(kind: SubjectKind) -> APIRouter:
    """The routes for the evidence of a kind of work."""
    prefix, known = service.SUBJECTS[kind].prefix, _ROUTES[kind]
    routes = APIRouter(
        prefix=f"/v1/{known.plural}/{{{kind}_id}}/evidence",
        tags=["evidence"],
        route_class=StrictJSONRoute,
        dependencies=[Depends(RequireScope(scope)) for scope in known.scopes[1:]],
    )
    Reader = Annotated[Principal, Depends(RequireScope(known.scopes[0]))]  # noqa: N806 - a type

    def identifier(public_id: Annotated[str, Path(alias=f"{kind}_id")]) -> UUID:
        return read_id(prefix, public_id)

    Identifier = Annotated[UUID, Depends(identifier)]  # noqa: N806 - a type

    @routes.get("", name=f"list_evidence_of_{kind}")
    async def list_evidence(
        identifier: Identifier, principal: Reader, store: StoreDependency, settings: SettingsDependency
    ) -> Page[EvidenceFormatOut]:
        """List the formats of evidence, and whether each can be had now."""
        signed = await run_in_threadpool(can_sign, settings.signing_keys_directory)
        formats = await store.run(service.list_formats, principal, kind, identifier, signed=signed)
        return Page(data=formats, has_more=False, next_cursor=None)

    @routes.head("/{format}", include_in_schema=False)
    @routes.get(
        "/{format}",
        name=f"download_evidence_of_{kind}",
        response_class=Response,
        responses=problem_responses(409) | _DOCUMENT,
    )
    async def download_evidence(
        identifier: Identifier,
        name: Annotated[str, Path(alias="format")],
        principal: Reader,
        store: StoreDependency,
        settings: SettingsDependency,
        renderings: RenderingsDependency,
        request: Request,
        texts: Texts = "redacted",
        if_none_match: ConditionHeader = None,
    ) -> Response:
        """Download a document of evidence. No submitted text is in it unless `texts` asks for them.

        It says the same whenever it is asked for: its times are those of the work.
        """
        if texts == "full":
            require_scope(principal, TEXTS_SCOPE)
        wanted = service.find_format(name, kind)
        controls = await run_in_threadpool(read_control_mappings, settings.control_mappings)
        record = await service.read_record(
            store, principal, kind, identifier, controls, texts=texts == "full"
        )
        return await send_evidence(
            wanted,
            record,
            settings.signing_keys_directory,
            if_none_match,
            renderings,
            head=request.method == "HEAD",
        )

    return routes


router = APIRouter()
for each in SubjectKind:
    router.include_router(_routes_of(each))
keys_router = APIRouter(tags=["evidence"])


@keys_router.get(KEYS_PATH, responses=problem_responses(503))
async def list_signing_keys(settings: SettingsDependency) -> SigningKeysOut:
    """List the public keys that evidence is, and was, signed with: a JSON Web Key Set, newest first.

    Whoever verifies evidence without this service keeps a copy.
    """
    keys = await run_in_threadpool(read_signing_keys, settings.signing_keys_directory)
    return SigningKeysOut(keys=[SigningKeyOut(**to_json_web_key(key)) for key in keys.public])
