"""A request that cannot be answered, whatever it is about."""

from http import HTTPStatus
from typing import Self

from app.errors.base import Conflict, MemauditError, ValidationFailed


class BadRequest(MemauditError):
    """The request cannot be read."""

    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"
    title = "Bad request"

    @classmethod
    def no_strict_json(cls) -> Self:
        """The body should be strict JSON and is not."""
        return cls("The body is not valid JSON in UTF-8, or an object in it has a name twice.")


class IdempotencyKeyMissing(BadRequest):
    """A request that creates work came without an Idempotency-Key header."""

    slug = "idempotency-key-missing"
    title = "Idempotency-Key is required"

    def __init__(self) -> None:
        super().__init__("Send an Idempotency-Key header: a fresh random value for each new piece of work.")


class IdempotencyInFlight(Conflict):
    """A request with the same Idempotency-Key is being answered right now."""

    slug = "idempotency-in-flight"
    title = "A request with this Idempotency-Key is in flight"


class IdempotencyMismatch(ValidationFailed):
    """The Idempotency-Key was used before with another request."""

    slug = "idempotency-mismatch"
    title = "Idempotency-Key was used with another request"


class Unauthorized(MemauditError):
    """The request has no valid API key."""

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"
    title = "Unauthorized"

    def __init__(self, detail: str = "Send an API key: Authorization: Bearer mak_…") -> None:
        super().__init__(detail)


class InsufficientScope(MemauditError):
    """The API key is valid but lacks the scope that the route asks for."""

    status = HTTPStatus.FORBIDDEN
    slug = "insufficient-scope"
    title = "Insufficient scope"


class CrossSiteRequest(MemauditError):
    """A form of the pages was sent from somewhere else."""

    status = HTTPStatus.FORBIDDEN
    slug = "cross-site-request"
    title = "Sent from another site"

    def __init__(self) -> None:
        super().__init__(
            "This form can only be sent from the pages of this service; open the page and repeat it."
        )


class BodyTooLarge(MemauditError):
    """The request body is larger than this route accepts."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "body-too-large"
    title = "Body too large"


class UnsupportedMediaType(MemauditError):
    """The request body has a content type that this route does not read."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media-type"
    title = "Unsupported media type"


class PreconditionFailed(MemauditError):
    """The file is not the one that If-Match names."""

    status = HTTPStatus.PRECONDITION_FAILED
    slug = "precondition-failed"
    title = "Precondition failed"


class RangeNotSatisfiable(MemauditError):
    """The range begins after the end of the file, whose size is `size`."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    slug = "range-not-satisfiable"
    title = "Range not satisfiable"

    def __init__(self, detail: str, size: int) -> None:
        super().__init__(detail)
        self.size = size


class Overloaded(MemauditError):
    """More is asked of this process than it can answer in time; nothing was done for the request."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "overloaded"
    title = "Overloaded"

    def __init__(self) -> None:
        super().__init__("More requests came than can be answered now; repeat this one after Retry-After.")


class RequestTimedOut(MemauditError):
    """The request came too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "request-timed-out"
    title = "Request timed out"


class AddressTooLong(MemauditError):
    """The path and query of the request are longer than any that this service knows."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    slug = "address-too-long"
    title = "Address too long"


class HeadersTooLarge(MemauditError):
    """The request has more headers, or longer ones, than this service reads."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    slug = "headers-too-large"
    title = "Headers too large"


class TooManyConnections(MemauditError):
    """More connections are open than this process serves, or serves to one address."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "too-many-connections"
    title = "Too many connections"
