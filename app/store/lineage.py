"""What a language model comes from, by the names that people know."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from sqlalchemy.orm import Session

from app.store.artifacts import Artifact
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.language_models import LanguageModel
from app.store.tenants import Tenant


@dataclass(frozen=True)
class Ancestor:
    """A language model of a lineage.

    Attributes:
        model: its public id.
        source: where its files came from.
        name: the hub's repository; `tenant/name` of an edited model; of a path its last part alone, for where
            a machine keeps its files is nobody's business.
        revision: the commit; None for a path.
        digest: of its files.
    """

    model: str
    source: Literal["hub", "path", "artifact"]
    name: str
    revision: str | None
    digest: str | None


def lineage_of(session: Session, row: LanguageModel) -> tuple[Ancestor, ...]:
    """A language model, then what it was derived from, and so on to one that is no edit."""
    ancestors = []
    following: LanguageModel | None = row
    while following is not None:
        ancestors.append(ancestor_of(session, following))
        base = following.base_model_id
        following = None if base is None else session.get_one(LanguageModel, base)
    return tuple(ancestors)


def ancestor_of(session: Session, row: LanguageModel) -> Ancestor:
    """A language model by itself, as a lineage names it."""
    source = row.source["type"]
    if source == "hub":
        name = row.source["repo"]
    elif source == "path":
        name = PurePosixPath(row.source["path"]).name
    else:
        tenant = session.get_one(Tenant, row.tenant_id)
        artifact = session.get_one(Artifact, parse_id(Prefix.ARTIFACT, row.source["artifact"]))
        name = f"{tenant.name}/{artifact.name}"
    return Ancestor(
        model=format_id(Prefix.LANGUAGE_MODEL, row.id),
        source=source,
        name=name,
        revision=row.revision,
        digest=row.digest,
    )
