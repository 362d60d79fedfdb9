"""What an edit works on, read from the store: its settings, its base, its texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts import AuditOptions, AuditSpec, EditSpec
from app.store import transitions
from app.store.edits import Edit, EditTextSet, TextSetRole, text_sets_of
from app.store.jobs import Lease, LeaseLost
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.text_sets import TextRow, iterate_text_batches, read_texts
from workers.audit_job import scoring_options
from workers.runtime import Runtime
from workers.science.texts import ScoringOptions

_ALL = 2**31 - 1


# Where edits keep files while they run, under the home directory; a name begins with the edit's id in hex.
WORKPLACES: Final = "edits"


@dataclass(frozen=True)
class EditInputs:
    """An edit as its job reads it."""

    edit_id: UUID
    tenant_id: UUID
    name: str
    spec: EditSpec
    base: LanguageModelRow
    text_sets: dict[TextSetRole, EditTextSet]

    @property
    def audit_options(self) -> AuditOptions:
        """How texts are scored, as the audits of the proof say it."""
        evaluation = self.spec.evaluation
        return AuditOptions(
            prefix_tokens=evaluation.prefix_tokens,
            suffix_tokens=evaluation.suffix_tokens,
            token_evidence=False,
            dtype=self.spec.dtype,
            prefix_token=evaluation.prefix_token,
        )

    @property
    def options(self) -> ScoringOptions:
        """How recitation is measured."""
        return scoring_options(AuditSpec(metrics=["extraction"], options=self.audit_options))

    def rows(self, runtime: Runtime, role: TextSetRole) -> list[TextRow]:
        """The texts of a role, in order; none if the role was not given."""
        if role not in self.text_sets:
            return []
        with runtime.sessions() as session:
            return read_texts(session, self.text_sets[role].text_set_id, 0, _ALL)

    def calibration_texts(self, session: Session) -> Iterator[str]:
        """The bare texts of the calibration set, read as they are asked for."""
        text_set = self.text_sets[TextSetRole.CALIBRATION]
        for batch in iterate_text_batches(session, text_set.text_set_id):
            yield from batch


def begin(runtime: Runtime, lease: Lease) -> EditInputs:
    """Mark the edit as running and read what it needs.

    Raises:
        LeaseLost: the edit was cancelled.
    """
    if lease.edit_id is None:
        raise LeaseLost
    with runtime.sessions.begin() as session:
        base = session.get_one(LanguageModelRow, lease.language_model_id)
        assert base.digest is not None
        edit = transitions.begin_work(session, Edit, lease.edit_id, base.digest)
        return EditInputs(
            edit_id=edit.id,
            tenant_id=edit.tenant_id,
            name=edit.name,
            spec=EditSpec.model_validate(edit.spec),
            base=base,
            text_sets=text_sets_of(session, [edit.id])[edit.id],
        )
