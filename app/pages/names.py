"""What language models and text sets are called, for pages that show ids of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.names import name_language_models, name_text_sets


@dataclass(frozen=True)
class Names:
    """The names by public id."""

    by_id: dict[str, str]

    def __call__(self, public_id: str | None) -> str:
        """The name of a resource; its id if it has none."""
        return "" if public_id is None else self.by_id.get(public_id, public_id)


def find_names(session: Session, tenant_id: UUID, public_ids: Iterable[str | None]) -> Names:
    """The names of some language models and text sets of a tenant, in two statements."""
    wanted = {public_id for public_id in public_ids if public_id is not None}
    models = name_language_models(session, tenant_id, _of(Prefix.LANGUAGE_MODEL, wanted))
    text_sets = name_text_sets(session, tenant_id, _of(Prefix.TEXT_SET, wanted))
    names = {format_id(Prefix.LANGUAGE_MODEL, identifier): name for identifier, name in models.items()}
    return Names(
        names | {format_id(Prefix.TEXT_SET, identifier): name for identifier, name in text_sets.items()}
    )


def _of(prefix: Prefix, public_ids: set[str]) -> set[UUID]:
    return {identifier for public_id in public_ids if (identifier := parse_id(prefix, public_id)) is not None}
