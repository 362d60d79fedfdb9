"""What a gate judges, and under which audit a rule finds the rows of its texts."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.audits import StoredAuditSpec
from app.contracts.policies import PolicyRule
from app.contracts.policies.rate import Rate
from app.contracts.policies.rule import ROLES, RuleOfOneModel
from app.contracts.results.evaluations import Evaluation
from app.contracts.results.studies import StudyResult
from app.contracts.studies import StoredStudySpec
from app.store.audits import Audit
from app.store.companions import companions_of
from app.store.core.identifiers import Prefix, parse_id
from app.store.edits import Edit
from app.store.gates import SubjectRow
from app.store.studies import Study, StudyRole

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A subject that has succeeded.

    Attributes:
        session: that reads it.
        row: the audit, the study or the edit.
    """

    session: Session
    row: SubjectRow

    @cached_property
    def study(self) -> StudyResult:
        """What the study found."""
        assert isinstance(self.row, Study)
        return StudyResult.model_validate(self.row.result)

    @cached_property
    def evaluation(self) -> Evaluation:
        """What the edit changed."""
        assert isinstance(self.row, Edit)
        return Evaluation.model_validate(self.row.evaluation)

    def audit_for(self, rule: PolicyRule) -> Audit:
        """The audit whose numbers a rule judges: of a study that of a model, of an edit one after it."""
        if isinstance(self.row, Audit):
            return self.row
        if isinstance(self.row, Study):
            audit_id = self._of_model(rule.model if isinstance(rule, RuleOfOneModel) else None)
        else:
            audit_id = self._after_edit((rule.texts if isinstance(rule, Rate) else None) or "seen")
        return self.session.get_one(Audit, audit_id)

    def _of_model(self, label: str | None) -> UUID:
        labels = [model.label for model in StoredStudySpec.model_validate(self.row.spec).models]
        wanted = len(labels) - 1 if label is None else labels.index(label)
        companions = companions_of(self.session, [self.row.id])[self.row.id]
        (audit_id,) = (
            each.audit_id for each in companions if each.role == StudyRole.MODEL and each.position == wanted
        )
        return audit_id

    def _after_edit(self, texts: str) -> UUID:
        audit_id = parse_id(Prefix.AUDIT, self.evaluation.sets[ROLES[texts]].audits.after)
        assert audit_id is not None
        return audit_id


def measures(audit: Audit, metric: str) -> bool:
    """Whether an audit was asked for a metric."""
    return metric in StoredAuditSpec.model_validate(audit.spec).metrics
