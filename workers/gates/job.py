"""Deciding a gate: its subject has succeeded; observe what each rule asks for, decide and end it."""

from sqlalchemy.orm import Session

from app.contracts.policies.policy import RULE_LIST
from app.contracts.results.gates import RuleOutcome, overall
from app.store.gates import Gate, begin_gate
from app.store.gating import subject_of
from app.store.jobs.leases import Lease, LeaseLost
from app.store.jobs.owners import GATE
from app.store.lifecycle import succeed_gate
from workers.gates.registry import observe
from workers.gates.subject import Judged
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime


def evaluate_gate(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Decide a gate and end it.

    Raises:
        LeaseLost: the gate was cancelled.
    """
    if lease.owner_kind != GATE.kind:
        raise LeaseLost
    gate_id = lease.owner_id
    with runtime.sessions.begin() as session:
        begin_gate(session, gate_id)
    with runtime.sessions() as session:
        outcomes = _outcomes(session, session.get_one(Gate, gate_id), keeper)

    def write(session: Session) -> int:
        result = {"rules": [outcome.model_dump(mode="json") for outcome in outcomes]}
        succeed_gate(session, gate_id, overall(outcome.outcome for outcome in outcomes), result)
        return 0

    return finish(runtime, lease, write)


def _outcomes(session: Session, gate: Gate, keeper: LeaseKeeper) -> list[RuleOutcome]:
    judged = Judged(session, subject_of(session, gate))
    found: list[RuleOutcome] = []
    for rule in RULE_LIST.validate_python(gate.spec["rules"]):
        keeper.report(len(found))
        found.append(RuleOutcome.of(rule, *observe(judged, rule)))
    return found
