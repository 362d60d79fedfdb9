"""Artifacts as they are answered."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, JsonValue

from app.store.artifacts import Artifact, ArtifactFile
from app.store.core.identifiers import Prefix, format_id


class ArtifactFileOut(BaseModel):
    """A file of an artifact; its ETag is the `sha256`."""

    path: str
    size: int
    sha256: str


class ArtifactOut(BaseModel):
    """An immutable set of files.

    `manifest_sha256` is the SHA-256 of what `sha256sum` prints for the files, sorted by path. `model_repo`
    and `revision` are what Hugging Face clients call these files when `HF_ENDPOINT` is this service.
    """

    object: Literal["artifact"] = "artifact"
    id: str
    name: str
    model_repo: str
    revision: str
    manifest_sha256: str
    total_bytes: int
    files: list[ArtifactFileOut]
    metadata: dict[str, JsonValue]
    created_at: datetime

    @classmethod
    def of(cls, row: Artifact, files: Sequence[ArtifactFile], tenant_name: str) -> Self:
        """The resource for an artifact and its files."""
        return cls(
            id=format_id(Prefix.ARTIFACT, row.id),
            name=row.name,
            model_repo=f"{tenant_name}/{row.name}",
            revision=row.commit,
            manifest_sha256=row.manifest_sha256,
            total_bytes=row.total_bytes,
            files=[ArtifactFileOut(path=file.path, size=file.size, sha256=file.sha256) for file in files],
            metadata={},
            created_at=row.created_at,
        )
