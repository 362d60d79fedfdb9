"""What things are called, for pages that have their ids."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from app.gates.schemas import GateSubject
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.names import audited_in, name_edits, name_language_models, name_studies, name_text_sets


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


def title_subjects(session: Session, tenant_id: UUID, subjects: Iterable[GateSubject]) -> Names:
    """What people call the subjects of gates, in as many statements however many there are."""
    wanted = {subject.id for subject in subjects}
    studies = name_studies(session, tenant_id, _of(Prefix.STUDY, wanted))
    titles = {format_id(Prefix.STUDY, identifier): name for identifier, name in studies.items()}
    edits = name_edits(session, tenant_id, _of(Prefix.EDIT, wanted))
    titles |= {format_id(Prefix.EDIT, identifier): name for identifier, name in edits.items()}
    audited = audited_in(session, tenant_id, _of(Prefix.AUDIT, wanted))
    models = name_language_models(session, tenant_id, {model for model, _ in audited.values()})
    text_sets = name_text_sets(session, tenant_id, {texts for _, texts in audited.values()})
    titles |= {
        format_id(Prefix.AUDIT, identifier): f"{models[model]} on {text_sets[texts]}"
        for identifier, (model, texts) in audited.items()
    }
    return Names(titles)


def _of(prefix: Prefix, public_ids: set[str]) -> set[UUID]:
    return {identifier for public_id in public_ids if (identifier := parse_id(prefix, public_id)) is not None}
