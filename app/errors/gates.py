"""A gate that has nothing to judge."""

from http import HTTPStatus

from app.errors.base import Conflict, JobFailed


class NothingToJudge(Conflict):
    """The subject of a gate has ended without a result."""

    slug = "nothing-to-judge"
    title = "Nothing to judge"


class SubjectFailed(JobFailed):
    """What a gate judges failed or was cancelled; the detail says which."""

    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "subject-failed"
    title = "Subject of the gate failed"
