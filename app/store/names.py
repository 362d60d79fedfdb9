"""What people call language models and text sets, as the ids of results say nothing to them."""

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.artifacts import Artifact
from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, parse_id
from app.store.language_models import LanguageModel
from app.store.tenants import Tenant
from app.store.text_sets import TextSet


def name_language_models(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of a tenant's language models, also of those that were deleted.

    A hub's repository; `tenant/name` of an edited model; of a path its last part alone, for where a machine
    keeps its files is nobody's business.
    """
    statement = select(LanguageModel.id, LanguageModel.source).where(
        LanguageModel.tenant_id == tenant_id, LanguageModel.id.in_(ids)
    )
    sources = {row.id: row.source for row in session.execute(statement)}
    artifacts = _name_artifacts(session, tenant_id, sources.values())
    return {identifier: _name(source, artifacts) for identifier, source in sources.items()}


def name_text_sets(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of a tenant's text sets, also of those that were erased."""
    statement = select(TextSet.id, TextSet.name).where(TextSet.tenant_id == tenant_id, TextSet.id.in_(ids))
    return {row.id: row.name for row in session.execute(statement)}


def _name(source: JSONObject, artifacts: dict[str, str]) -> str:
    if source["type"] == "hub":
        return str(source["repo"])
    if source["type"] == "path":
        return PurePosixPath(source["path"]).name
    return artifacts[source["artifact"]]


def _name_artifacts(session: Session, tenant_id: UUID, sources: Iterable[JSONObject]) -> dict[str, str]:
    """`tenant/name` by public id, of the artifacts that are among the sources, also of deleted ones."""
    public_ids = {source["artifact"] for source in sources if source["type"] == "artifact"}
    ids = {parse_id(Prefix.ARTIFACT, public_id): public_id for public_id in public_ids}
    statement = (
        select(Artifact.id, Artifact.name, Tenant.name.label("tenant"))
        .join(Tenant, Tenant.id == Artifact.tenant_id)
        .where(Artifact.tenant_id == tenant_id, Artifact.id.in_(ids))
    )
    return {ids[row.id]: f"{row.tenant}/{row.name}" for row in session.execute(statement)}
