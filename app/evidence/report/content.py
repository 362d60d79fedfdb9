"""The report of a record, part by part, in the order of reading."""

from collections.abc import Iterator
from datetime import UTC
from typing import Final

from app.audits.schemas import AuditOut
from app.evidence.cautions import cautions
from app.evidence.record import EvidenceRecord
from app.evidence.report.account import Account
from app.evidence.report.audits import audit_account
from app.evidence.report.document import Block, Bullets, Paragraph, Report, Section
from app.evidence.report.edits import edit_account
from app.evidence.report.identity import digests, reproduction
from app.evidence.report.methods import methods_used
from app.evidence.report.scores import worst_texts
from app.evidence.report.studies import study_account
from app.evidence.report.verdicts import gate_limits, verdict
from app.gates.schemas import GateOut
from app.studies.schemas import StudyOut

_LIMITS: Final = (
    "Another training run may turn out otherwise: intervals tell how much texts differ, not how seeds do.",
    "Intervals are not corrected for their number: of twenty, one misses.",
    "A text written by a template is likely without being memorized: compare with unseen texts of its kind.",
    "These are measurements. Whether a law is kept is for others to judge.",
)


def report(record: EvidenceRecord) -> Report:
    """All that a report says of a record. The same record gives the same report."""
    account = _account(record)
    return Report(
        title=_title(record, account),
        facts=tuple(_facts(record)),
        finished=record.finished_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        sections=tuple(_sections(record, account)),
    )


def _title(record: EvidenceRecord, account: Account) -> str:
    if isinstance(record.resource, GateOut):
        return f"Gate \u201c{record.resource.policy_name}\u201d: {account.title}"
    return account.title


def _question(record: EvidenceRecord, account: Account) -> Iterator[Block]:
    if isinstance(record.resource, GateOut):
        gate = record.resource
        yield Paragraph(
            f"Does the {gate.subject.kind} {gate.subject.id} keep version {gate.policy_version} of the "
            f"policy \u201c{gate.policy_name}\u201d? The {gate.subject.kind} asked:"
        )
    yield Paragraph(account.question)


def _account(record: EvidenceRecord) -> Account:
    work = record.work
    if isinstance(work, AuditOut):
        return audit_account(record, work)
    if isinstance(work, StudyOut):
        return study_account(record, work)
    return edit_account(record, work)


def _facts(record: EvidenceRecord) -> Iterator[tuple[str, str]]:
    work = record.work
    yield record.kind.capitalize(), record.id
    if record.id != work.id:
        yield work.object.capitalize(), work.id
    yield "Requested", f"{work.created_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    yield "Finished", f"{record.finished_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    yield "Made by", f"memaudit {record.software}"


def _sections(record: EvidenceRecord, account: Account) -> Iterator[Section]:
    parts: dict[str, tuple[str, tuple[Block, ...]]] = {
        "question": ("The question", tuple(_question(record, account))),
        "verdict": ("The verdict", tuple(verdict(record.gates, account.short, account.judged))),
        "numbers": ("The numbers", account.numbers),
        "plots": ("The plots", account.figures or (Paragraph("There is nothing to draw."),)),
        "texts": ("The most memorized texts", tuple(worst_texts(record))),
        "methods": ("Methods", tuple(methods_used(record))),
        "limits": (
            "What cannot be concluded",
            (Bullets((*gate_limits(record.gates), *account.limits, *cautions(record), *_LIMITS)),),
        ),
        "digests": ("Digests", tuple(digests(record))),
        "reproduce": ("How to reproduce", tuple(reproduction(record, account))),
    }
    for name, (title, blocks) in parts.items():
        yield Section(name, title, blocks)
