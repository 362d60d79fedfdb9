"""Expected failures of a suite. Their text is shown to the user and never quotes a corpus.

SuiteError
├── CorpusUnreadable
├── CorpusTooSmall
├── PlantRejected
├── TextTooLong
├── PlanTooLarge
├── OutputOccupied
├── OutputDamaged
├── TrainingDiverged
├── TrainingFailed
├── NoSuite
└── SuitesDiffer
"""


class SuiteError(Exception):
    """A suite cannot be trained or reported; the message says what to change."""


class CorpusUnreadable(SuiteError):
    """The corpus holds no UTF-8 text."""


class CorpusTooSmall(SuiteError):
    """The corpus has too few long documents to hold out what the size inserts."""


class PlantRejected(SuiteError):
    """A record of the user's own texts cannot be inserted."""


class TextTooLong(SuiteError):
    """A text does not fit into one training sequence between two end-of-text tokens."""


class PlanTooLarge(SuiteError):
    """There are more copies to insert than training sequences to take them, one each."""


class OutputOccupied(SuiteError):
    """The output directory holds something other than the suite that was asked for."""


class OutputDamaged(SuiteError):
    """A finished suite's file no longer matches the digest in its manifest."""


class TrainingDiverged(SuiteError):
    """The loss is not finite any more."""


class TrainingFailed(SuiteError):
    """A training process ended before its model was saved."""


class SuitesDiffer(SuiteError):
    """Suites that are to be taken together are not of one plan with seeds of their own."""


class NoSuite(SuiteError):
    """The directory holds no finished suite to report on."""
