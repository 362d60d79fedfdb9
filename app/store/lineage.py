"""What a language model comes from, by the names that people know."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.store.core.identifiers import Prefix, format_id
from app.store.language_models import LanguageModel
from app.store.names import name_language_models


@dataclass(frozen=True)
class Ancestor:
    """A language model of a lineage.

    Attributes:
        model: its public id.
        source: where its files came from.
        name: as `name_language_models` has it.
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
    return Ancestor(
        model=format_id(Prefix.LANGUAGE_MODEL, row.id),
        source=row.source["type"],
        name=name_language_models(session, row.tenant_id, [row.id])[row.id],
        revision=row.revision,
        digest=row.digest,
    )
