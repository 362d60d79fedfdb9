"""`pdf`: the report of `html` on pages, typeset with its formulas."""

from app.evidence.format import EvidenceFormat
from app.evidence.report.content import report
from app.evidence.report.typesetting import pdf

FORMAT = EvidenceFormat(
    name="pdf",
    title="Report to print",
    media_type="application/pdf",
    suffix="pdf",
    render=report,
    finish=pdf,
)
