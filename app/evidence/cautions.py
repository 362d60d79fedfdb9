"""What the numbers of finished work do not prove, in sentences for documents."""

from collections.abc import Iterator
from typing import Final

from app.audits.schemas import AuditOut
from app.contracts.results.calibration import Calibration, CalibrationReason
from app.edits.schemas import EditOut
from app.evidence.record import EvidenceRecord
from app.studies.schemas import StudyOut

_ALWAYS: Final = (
    "A text that is not shown to be memorized may still have been in the training data.",
    "A likely text was not necessarily seen in training: common or predictable texts are likely without it.",
    "The numbers say nothing of other texts, of other files, or of other ways of decoding.",
)
_STRICT: Final = (
    "Extraction is measured by greedy decoding after one split of each text: other prompts may recite more."
)
_STUDY: Final = (
    "Differences are between these models; a cause is shown only where they differ in nothing but the texts "
    "that they saw."
)
_EDIT: Final = (
    "An edited model that recites less is no proof of erasure: other prompts, further training or another "
    "precision may bring texts back."
)
_UNCALIBRATED: Final = "Without control texts no text has a p-value or a verdict."
_REASONS: Final[dict[CalibrationReason, str]] = {
    "too_few_controls": "There are too few control texts for any text to have a verdict.",
    "too_few_texts": "There are too few texts that are no near-duplicates for any to have a verdict.",
    "controls_differ": "Texts and controls can be told apart without the model, so no text has a verdict.",
}


def cautions(record: EvidenceRecord) -> Iterator[str]:
    """What is not proved, the most general first."""
    yield from _ALWAYS
    audits = [audit.resource for audit in record.principal_audits]
    if any("extraction" in audit.metrics for audit in audits):
        yield _STRICT
    work = record.work
    if isinstance(work, StudyOut):
        yield _STUDY
    if isinstance(work, EditOut):
        yield _EDIT
    if isinstance(work, AuditOut) and work.summary is not None:
        unjudged = why_unjudged(work.summary.calibration)
        if unjudged is not None:
            yield unjudged


def why_unjudged(calibration: Calibration | None) -> str | None:
    """Why no text of an audit has a verdict; None if some have."""
    if calibration is None:
        return _UNCALIBRATED
    return None if calibration.reason is None else _REASONS[calibration.reason]
