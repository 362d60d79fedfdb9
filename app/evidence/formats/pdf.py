"""`pdf`: the report of `html` on pages, typeset with its formulas."""

from app.evidence.format import EvidenceFormat
from app.evidence.record import EvidenceRecord
from app.evidence.report.content import report
from app.evidence.report.typesetting import pdf


def render(record: EvidenceRecord) -> bytes:
    """The report of a record."""
    return pdf(report(record))


FORMAT = EvidenceFormat(
    name="pdf",
    title="Report to print",
    media_type="application/pdf",
    suffix="pdf",
    render=render,
)
