"""Texts that are not there, or not yet."""

from http import HTTPStatus

from app.errors.base import Conflict, JobFailed


class TextSetNotReady(Conflict):
    """The text set is still being imported, or its import has failed."""

    slug = "text-set-not-ready"
    title = "Text set not ready"


class ImportFailed(JobFailed):
    """A preset's texts cannot be had: the hub refuses or may not be asked, or the data has changed."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "import-failed"
    title = "Import failed"


class TextsAwaited(JobFailed):
    """The texts that the work needs are being imported."""

    slug = "texts-awaited"
    title = "Texts are being imported"
    transient = True
