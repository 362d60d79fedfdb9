"""Artifacts: named, immutable sets of files. The bytes of the files are blobs."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Select, Text, delete, exists, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import ArtifactNameTaken, NotFound, ResourceInUse
from app.store.blobs.rows import REFERENCES, keep_blobs
from app.store.core.base import Base, CreatedAt, PrimaryKey, newest_first
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.tenants import Tenant

# As hubs have it: no two separators in a row, none at the ends.
ARTIFACT_NAME: Final = r"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$"
# A git commit's length: Hugging Face's client takes a revision of 40 hex digits for one.
COMMIT_DIGITS: Final = 40
MAX_NAME_CHARS: Final = 96
_MAX_PATH_CHARS: Final = 200
_FILE_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class Artifact(Base):
    """A set of files with a name that is its tenant's own among those not deleted."""

    __tablename__ = "artifacts"
    __table_args__ = (
        Index("ix_artifacts_tenant_id_id", "tenant_id", "id"),
        Index(
            "uq_artifacts_tenant_id_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    manifest_sha256: Mapped[str] = mapped_column(Text)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]

    @property
    def commit(self) -> str:
        """The revision under which hub clients know these files."""
        return self.manifest_sha256[:COMMIT_DIGITS]


class ArtifactFile(Base):
    """A file of an artifact: its path, and the blob that it is."""

    __tablename__ = "artifact_files"

    artifact_id: Mapped[UUID] = mapped_column(
        ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)


REFERENCES.append(ArtifactFile.sha256)


@dataclass(frozen=True)
class StoredFile:
    """A file whose bytes are in the store."""

    path: str
    sha256: str
    size: int


def digest_manifest(files: Sequence[StoredFile | ArtifactFile]) -> str:
    """One SHA-256 for all files: of what `sha256sum` prints for them, sorted by path."""
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def is_file_path(path: str) -> bool:
    """Whether a path can be an artifact's: relative, plain characters, no part that begins with a dot."""
    return len(path) <= _MAX_PATH_CHARS and _FILE_PATH.fullmatch(path) is not None


def artifact_exists(session: Session, tenant_id: UUID, name: str) -> bool:
    """Whether the tenant has an artifact of this name."""
    return session.scalars(_live(tenant_id).where(Artifact.name == name)).first() is not None


def add_artifact(session: Session, tenant_id: UUID, name: str, files: Sequence[StoredFile]) -> Artifact:
    """Make an artifact of files whose bytes were put into the store. The caller commits.

    Raises:
        ArtifactNameTaken: the tenant has one of this name.
        BlobMissing: a file's bytes are not in the store.
        ValueError: the name or a path is not a plain one, a path comes twice, or there is no file.
    """
    paths = {file.path for file in files}
    plain = len(name) <= MAX_NAME_CHARS and re.fullmatch(ARTIFACT_NAME, name)
    if not plain or not all(map(is_file_path, paths)):
        raise ValueError("names and paths of an artifact consist of plain characters")
    if not files or len(paths) != len(files):
        raise ValueError("an artifact has at least one file, and each path once")
    # Two transactions that add the same name wait for each other here, not at the unique index.
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    if artifact_exists(session, tenant_id, name):
        raise ArtifactNameTaken("There is an artifact of this name; choose another, or delete that one.")
    keep_blobs(session, {file.sha256 for file in files})
    artifact = Artifact(
        id=new_id(),
        tenant_id=tenant_id,
        name=name,
        manifest_sha256=digest_manifest(files),
        total_bytes=sum(file.size for file in files),
    )
    session.add(artifact)
    session.flush()
    session.add_all(
        ArtifactFile(artifact_id=artifact.id, path=file.path, sha256=file.sha256, size=file.size)
        for file in files
    )
    session.flush()
    return artifact


def get_artifact(session: Session, tenant_id: UUID, artifact_id: UUID | None) -> Artifact:
    """A tenant's artifact.

    Raises:
        NotFound: no such artifact for this tenant, or it was deleted.
    """
    return _one(session, _live(tenant_id).where(Artifact.id == artifact_id))


def find_artifact(session: Session, tenant_id: UUID, artifact_id: UUID) -> Artifact | None:
    """A tenant's artifact, even if it was deleted: its digest stays, its files are gone."""
    statement = select(Artifact).where(Artifact.id == artifact_id, Artifact.tenant_id == tenant_id)
    return session.scalars(statement).one_or_none()


def get_artifact_by_repo(session: Session, tenant_name: str, name: str) -> Artifact:
    """The artifact that hub clients call `<tenant>/<name>`.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    statement = (
        select(Artifact)
        .join(Tenant, Tenant.id == Artifact.tenant_id)
        .where(Tenant.name == tenant_name, Artifact.name == name, Artifact.deleted_at.is_(None))
    )
    return _one(session, statement)


def list_artifacts(session: Session, tenant_id: UUID, *, before: UUID | None, limit: int) -> list[Artifact]:
    """A tenant's artifacts, newest first, those older than `before`."""
    return newest_first(session, _live(tenant_id), Artifact.id, before, limit)


def list_files(session: Session, artifact_id: UUID) -> list[ArtifactFile]:
    """The files of an artifact by path."""
    return files_of(session, [artifact_id])[artifact_id]


def files_of(session: Session, artifact_ids: Sequence[UUID]) -> dict[UUID, list[ArtifactFile]]:
    """The files of each artifact by path; the same order everywhere, whatever the database's collation."""
    files: dict[UUID, list[ArtifactFile]] = {artifact_id: [] for artifact_id in artifact_ids}
    rows = session.scalars(select(ArtifactFile).where(ArtifactFile.artifact_id.in_(artifact_ids)))
    for file in sorted(rows, key=lambda row: row.path):
        files[file.artifact_id].append(file)
    return files


def get_file(session: Session, artifact_id: UUID, path: str) -> ArtifactFile:
    """A file of an artifact.

    Raises:
        NotFound: the artifact has no file of this path.
    """
    file = session.get(ArtifactFile, (artifact_id, path)) if is_file_path(path) else None
    if file is None:
        raise NotFound("The artifact has no such file.")
    return file


def delete_artifact(session: Session, tenant_id: UUID, artifact_id: UUID | None) -> None:
    """Delete an artifact. Bytes that no other artifact shares are collected later.

    Raises:
        NotFound: no such artifact for this tenant.
        ResourceInUse: a language model is registered on it.
    """
    artifact = get_artifact(session, tenant_id, artifact_id)
    session.execute(select(Artifact.id).where(Artifact.id == artifact.id).with_for_update())
    registered = exists().where(
        LanguageModel.tenant_id == tenant_id,
        LanguageModel.source["artifact"].astext == format_id(Prefix.ARTIFACT, artifact.id),
        LanguageModel.deleted_at.is_(None),
        LanguageModel.status != LanguageModelStatus.REJECTED,
    )
    if session.scalar(select(registered)):
        raise ResourceInUse("A language model is registered on this artifact; delete that one first.")
    session.execute(delete(ArtifactFile).where(ArtifactFile.artifact_id == artifact.id))
    artifact.deleted_at = session.scalar(select(func.now()))
    session.flush()


def _live(tenant_id: UUID) -> Select[Artifact]:
    return select(Artifact).where(Artifact.tenant_id == tenant_id, Artifact.deleted_at.is_(None))


def _one(session: Session, statement: Select[Artifact]) -> Artifact:
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such artifact.")
    return row
