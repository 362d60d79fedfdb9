"""Model lines and their versions."""

from http import HTTPStatus

from app.errors.base import Conflict, JobFailed


class LineNameTaken(Conflict):
    """The tenant has a model line of this name."""

    slug = "line-name-taken"
    title = "Model line name taken"


class LabelTaken(Conflict):
    """The model line has a version of this label, which has succeeded or may."""

    slug = "label-taken"
    title = "Version label taken"


class NothingToCompare(Conflict):
    """The first version of a model line has none before it."""

    slug = "nothing-to-compare"
    title = "Nothing to compare"


class VersionIncomplete(JobFailed):
    """An audit, a study or a gate of a model version failed or was cancelled; the detail says which."""

    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "version-incomplete"
    title = "Model version incomplete"
