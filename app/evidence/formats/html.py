"""`html`: one self-contained report for people, without a script and without another file."""

from app.evidence.format import EvidenceFormat
from app.evidence.report.content import report
from app.evidence.report.page import page

FORMAT = EvidenceFormat(
    name="html",
    title="Report to read",
    media_type="text/html",
    suffix="html",
    render=report,
    finish=page,
)
