"""What people call things of a tenant, as ids say nothing to them."""

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.artifacts import Artifact
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, parse_id
from app.store.edits import Edit
from app.store.language_models import LanguageModel
from app.store.studies import Study
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


def name_studies(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of a tenant's studies."""
    statement = select(Study.id, Study.name).where(Study.tenant_id == tenant_id, Study.id.in_(ids))
    return {row.id: row.name for row in session.execute(statement)}


def name_edits(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of a tenant's edits."""
    statement = select(Edit.id, Edit.name).where(Edit.tenant_id == tenant_id, Edit.id.in_(ids))
    return {row.id: row.name for row in session.execute(statement)}


def audited_in(session: Session, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, tuple[UUID, UUID]]:
    """The language model and the text set of a tenant's audits: these have no name of their own."""
    statement = select(Audit.id, Audit.language_model_id, Audit.text_set_id).where(
        Audit.tenant_id == tenant_id, Audit.id.in_(ids)
    )
    return {row.id: (row.language_model_id, row.text_set_id) for row in session.execute(statement)}


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
