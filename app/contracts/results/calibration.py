"""What comparing an audit's texts with others showed, as it is answered."""

from enum import StrEnum


class Verdict(StrEnum):
    """What is shown of a text."""

    MEMORIZED = "memorized"  # its q-value is at most `options.fdr`
    NOT_SHOWN = "not_shown"  # it may have been seen, but these numbers do not show it
    UNCALIBRATED = "uncalibrated"  # nothing was there to compare it with that is like it
