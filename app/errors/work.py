"""Audits, studies and edits that cannot be asked for, have no result, or end without one."""

from http import HTTPStatus
from typing import Any

from app.errors.base import Conflict, JobFailed, ValidationFailed


class DoesNotFit(ValidationFailed):
    """The work takes more memory than any worker has."""

    slug = "does-not-fit"
    title = "Does not fit in memory"


class ResourceInUse(Conflict):
    """Unfinished work still needs the resource."""

    slug = "resource-in-use"
    title = "Resource in use"


class AlreadyTerminal(Conflict):
    """The work has ended; it cannot be cancelled any more."""

    slug = "already-terminal"
    title = "Already ended"


class AuditNotSucceeded(Conflict):
    """Scores are given out only when all of them are there."""

    slug = "audit-not-succeeded"
    title = "Audit has not succeeded"


class StudyNotSucceeded(Conflict):
    """Texts are compared only when all audits of a study are there."""

    slug = "study-not-succeeded"
    title = "Study has not succeeded"


class ScoringFailed(JobFailed):
    """The language model gave a number that is not finite; the detail says what to change."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "scoring-failed"
    title = "Scoring failed"


class TokenizingFailed(JobFailed):
    """The tokenizer fails at a text or takes too much for it; the detail says what to change."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "tokenizing-failed"
    title = "Tokenizing failed"


class ScoresMissing(JobFailed):
    """An audit has more or fewer score rows than texts."""

    slug = "scores-missing"
    title = "Scores missing"


class CompanionFailed(JobFailed):
    """An audit that other work waited for failed or was cancelled; the detail says which."""

    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "companion-failed"
    title = "Companion audit failed"


class EditFailed(JobFailed):
    """The edit cannot be made from what was given; the detail says what to change."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "edit-failed"
    title = "Edit failed"


class NoFeasibleSetting(EditFailed):
    """Every setting that a search tried costs more than the constraint allows."""

    slug = "no-feasible-setting"
    title = "No feasible setting"

    def __init__(
        self, detail: str, frontier: list[dict[str, Any]], warnings: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(detail)
        self.findings = {"frontier": {"points": frontier, "warnings": warnings or []}}


class ShardPoisoned(JobFailed):
    """Every attempt at a job ended without an answer: the worker died or lost its lease."""

    slug = "attempts-exhausted"
    title = "Attempts exhausted"


class JobCrashed(JobFailed):
    """The computation raised an error that nobody expected; another attempt may get through."""

    slug = "job-crashed"
    title = "Job crashed"
    retryable = True
