"""`/v1/artifacts`."""

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from app.artifacts import service
from app.artifacts.archive import archive_length, stream_archive
from app.artifacts.schemas import ArtifactOut
from app.artifacts.sending import FILE_RESPONSES, FileConditions, begun, send_file
from app.http.dependencies import EditReader, EditWriter, PageCursor, PageLimit, StoreDependency, read_id
from app.http.json_body import StrictJSONRoute
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.store.core.identifiers import Prefix

TAR = "application/x-tar"

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"], route_class=StrictJSONRoute)


@router.get("")
async def list_artifacts(
    principal: EditReader, store: StoreDependency, limit: PageLimit = 20, cursor: PageCursor = None
) -> Page[ArtifactOut]:
    """List artifacts, newest first."""
    return await store.run(service.list_page, principal, limit, cursor)


@router.get("/{artifact_id}")
async def read_artifact(artifact_id: str, principal: EditReader, store: StoreDependency) -> ArtifactOut:
    """Read the manifest of an artifact: its files with their sizes and digests."""
    return await store.run(service.read_artifact, principal, read_id(Prefix.ARTIFACT, artifact_id))


@router.delete("/{artifact_id}", status_code=204, responses=problem_responses(409))
async def forget_artifact(artifact_id: str, principal: EditWriter, store: StoreDependency) -> None:
    """Delete an artifact. While a language model is registered on it, the answer is 409."""
    await store.run_long(service.delete, principal, read_id(Prefix.ARTIFACT, artifact_id))


@router.head("/{artifact_id}/files/{path:path}", include_in_schema=False)
@router.get("/{artifact_id}/files/{path:path}", response_class=Response, responses=FILE_RESPONSES)
async def download_file(
    artifact_id: str, path: str, principal: EditReader, store: StoreDependency, conditions: FileConditions
) -> Response:
    """Download a file, or a range of it. Its strong `ETag` is its SHA-256; `If-Range` resumes safely.

    Bytes that do not match their digest are never sent: the answer is 500, or breaks off before them.
    """
    identifier = read_id(Prefix.ARTIFACT, artifact_id)
    member = await store.run(service.find_file, principal.tenant_id, identifier, path)
    return await send_file(store, principal, member, conditions)


@router.get(
    "/{artifact_id}/archive.tar",
    response_class=Response,
    responses=problem_responses(500) | {200: {"content": {TAR: {}}}},
)
async def download_archive(artifact_id: str, principal: EditReader, store: StoreDependency) -> Response:
    """Download all files as a tar archive. To resume, download the files one by one instead."""
    identifier = read_id(Prefix.ARTIFACT, artifact_id)
    artifact, members = await store.run(service.take_members, principal, identifier)
    headers = {
        "Content-Length": str(archive_length(artifact, [file for file, _ in members])),
        "Content-Disposition": f'attachment; filename="{artifact.name}.tar"',
        "ETag": f'"{artifact.manifest_sha256}-tar"',
    }
    body = await begun(stream_archive(store, artifact, members))
    return StreamingResponse(body, headers=headers, media_type=TAR)
