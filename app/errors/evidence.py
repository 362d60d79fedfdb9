"""Evidence that cannot be given."""

from http import HTTPStatus

from app.errors.base import Conflict, MemauditError


class EvidenceNotReady(Conflict):
    """Evidence is given of work that has succeeded."""

    slug = "evidence-not-ready"
    title = "Evidence not ready"


class EvidenceFormatNotInstalled(Conflict):
    """A format needs a package that is not installed where the API runs; the message says which."""

    slug = "evidence-format-not-installed"
    title = "Evidence format not installed"


class SigningUnavailable(MemauditError):
    """This instance has no key to sign evidence with; the detail says what to set."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "signing-unavailable"
    title = "Signing unavailable"
