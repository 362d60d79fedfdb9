"""Reading artifacts."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.artifacts.schemas import ArtifactOut
from app.http.pagination import Page, id_cursor, page_by_id
from app.store.artifacts import (
    Artifact,
    ArtifactFile,
    delete_artifact,
    files_of,
    get_artifact,
    get_file,
    list_artifacts,
    list_files,
)
from app.store.blobs.reading import get_blob
from app.store.blobs.rows import Blob
from app.store.core.identifiers import Prefix, format_id
from app.store.tenants import Principal
from app.store.trail import Action, record_request

Member = tuple[ArtifactFile, Blob]


def read_artifact(session: Session, principal: Principal, artifact_id: UUID) -> ArtifactOut:
    """An artifact with its files.

    Raises:
        NotFound: no such artifact for this tenant.
    """
    artifact = get_artifact(session, principal.tenant_id, artifact_id)
    return ArtifactOut.of(artifact, list_files(session, artifact.id), principal.tenant_name)


def list_page(session: Session, principal: Principal, limit: int, cursor: str | None) -> Page[ArtifactOut]:
    """A tenant's artifacts, newest first."""
    rows = list_artifacts(session, principal.tenant_id, before=id_cursor(cursor), limit=limit + 1)
    files = files_of(session, [row.id for row in rows])

    def render(row: Artifact) -> ArtifactOut:
        return ArtifactOut.of(row, files[row.id], principal.tenant_name)

    return page_by_id(rows, limit, render)


def delete(session: Session, principal: Principal, artifact_id: UUID) -> None:
    """Delete an artifact.

    Raises:
        NotFound: no such artifact for this tenant.
        ResourceInUse: a language model is registered on it.
    """
    delete_artifact(session, principal.tenant_id, artifact_id)
    record_request(session, principal, Action.ARTIFACT_DELETED, format_id(Prefix.ARTIFACT, artifact_id))


def find_file(session: Session, tenant_id: UUID, artifact_id: UUID, path: str) -> Member:
    """A file of an artifact, and the blob that it is.

    Raises:
        NotFound: no such artifact for this tenant, or no such file.
        ArtifactCorrupt: the file's bytes are not in the store.
    """
    file = get_file(session, get_artifact(session, tenant_id, artifact_id).id, path)
    return file, get_blob(session, file.sha256)


def take_members(session: Session, principal: Principal, artifact_id: UUID) -> tuple[Artifact, list[Member]]:
    """An artifact with its files and their blobs, to be downloaded.

    Raises:
        NotFound: no such artifact for this tenant.
        ArtifactCorrupt: the bytes of a file are not in the store.
    """
    artifact = get_artifact(session, principal.tenant_id, artifact_id)
    public_id = format_id(Prefix.ARTIFACT, artifact.id)
    record_request(session, principal, Action.ARTIFACT_DOWNLOADED, public_id, {"files": "all"})
    return artifact, [(file, get_blob(session, file.sha256)) for file in list_files(session, artifact.id)]
