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


class RenderingTimedOut(MemauditError):
    """A document takes longer to draw than this instance allows."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "rendering-timed-out"
    title = "Rendering timed out"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The document was not drawn within {seconds:g} seconds. Ask for another format, or no texts; "
            "whoever runs the service can allow more with MEMAUDIT_RENDERING_SECONDS."
        )
