"""Expected failures of the science, free of jobs and HTTP; the worker translates them.

    ScienceError
    ├── CheckpointRejected       the checkpoint cannot be used
    ├── PrefixTokenUnusable      the model has no such prefix token
    ├── ProjectionNotFound       the model has no such layer or projection
    ├── ScoreNotFinite           the language model gave a number that is not finite
    │   └── RecoveryDiverged     training an edited model again made it so
    └── TokenOutsideVocabulary   the model has no row for a token of a text

No message contains a submitted text.
"""


class ScienceError(Exception):
    """An expected failure: `code` is stable for programs, `detail` tells a person what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type["ScienceError"], tuple[str, str]]:
        return type(self), (self.code, self.detail)


class CheckpointRejected(ScienceError):
    """The checkpoint cannot be used; the detail names the file and the remedy."""


class PrefixTokenUnusable(ScienceError):
    """The language model has no such token to put before a text."""


class ProjectionNotFound(ScienceError):
    """The model has no such layer or projection; the detail lists those that it has."""


class ScoreNotFinite(ScienceError):
    """The language model gave a log-likelihood that is not finite."""


class RecoveryDiverged(ScoreNotFinite):
    """Training an edited model again gave weights that are not finite."""


class TokenOutsideVocabulary(ScienceError):
    """The tokenizer gives tokens that the model has no row for, in texts of which none may be left out."""
