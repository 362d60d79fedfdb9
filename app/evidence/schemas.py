"""What is said of the formats of evidence."""

from typing import Literal

from app.contracts.base import Described


class EvidenceFormatOut(Described):
    """A format in which evidence of some work can be had."""

    object: Literal["evidence_format"] = "evidence_format"
    name: str
    """As the last part of the address has it."""
    title: str
    """What it is, for people."""
    media_type: str
    """Of the document."""
    available: bool
    """Whether the document can be had now: the work has succeeded."""
