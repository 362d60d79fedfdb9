"""Pre-registration: a policy that is named when a subject is asked for, so before its first score."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Self
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.base import Described
from app.contracts.policies import SubjectKind
from app.store.core.identifiers import Prefix, format_id
from app.store.gates import Gate, gates_of
from app.store.gating import add_gate
from app.store.policies import get_policy
from app.store.tenants import Principal


class Preregistration(Described):
    """What was written down before the first score."""

    policy: str
    """The id of the policy."""
    policy_sha256: str
    """Its digest."""
    text_set_hmac_sha256: str | None = None
    """The digest of the texts under a key of the tenant, the `hmac_sha256` of their set; null while they are
    being imported or that is null, and of an edit, whose receipt has those of all its text sets."""
    gate: str
    """The id of the gate that was made with it."""
    registered_at: datetime
    """When it was written down."""

    @classmethod
    def of(cls, gate: Gate, unkeyed: Collection[str] = ()) -> Self:
        """What a gate that was made with its subject says of it, without digests that are not keyed yet."""
        digest = gate.text_set_hmac_sha256
        return cls(
            policy=format_id(Prefix.POLICY, gate.policy_id),
            policy_sha256=gate.spec["policy_sha256"],
            text_set_hmac_sha256=None if digest in unkeyed else digest,
            gate=format_id(Prefix.GATE, gate.id),
            registered_at=gate.created_at,
        )


def preregister(
    session: Session, principal: Principal, policy: str | None, kind: SubjectKind, subject_id: UUID
) -> Preregistration | None:
    """Write down by which policy a subject will be judged that is asked for in this transaction.

    Raises:
        NotFound: no such policy for this tenant.
        ValidationFailed: a rule cannot judge such a subject.
    """
    if policy is None:
        return None
    found = get_policy(session, principal.tenant_id, policy)
    gate = add_gate(session, principal.tenant_id, found, kind, subject_id, preregistered=True)
    return Preregistration.of(gate)


def preregistrations_of(
    session: Session, subject_ids: Iterable[UUID], unkeyed: Collection[str] = ()
) -> dict[UUID, Preregistration]:
    """What was written down of each subject, without digests that are not keyed yet.

    Subjects without are left out.
    """
    return {
        subject_id: Preregistration.of(gate, unkeyed)
        for subject_id, gates in gates_of(session, subject_ids).items()
        for gate in gates
        if gate.preregistered
    }
