"""The control texts of an audit, as far as scoring its texts needs them: the shots of ReCaLL."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec
from app.store.companions import CompanionRole, companions_of
from workers.science.metrics.metric import Need
from workers.science.metrics.registry import METRICS


def control_set_for_shots(session: Session, audit_id: UUID, spec: AuditSpec) -> UUID | None:
    """The text set whose leading texts stand before each text of an audit; None if its metrics need none."""
    if not any(Need.SHOTS in METRICS[name].needs for name in spec.metrics if name in METRICS):
        return None
    companions = companions_of(session, [audit_id])[audit_id]
    return next((each.text_set_id for each in companions if each.role == CompanionRole.CONTROL), None)
