"""Everything that a client raises.

MemauditError
├── ServiceUnreachable       nobody answers at the URL, or whoever does cannot now (502, 503, 504)
├── AnswerNotUnderstood      what answers is not a memaudit service
├── RequestRefused           the service answered with a problem document: `.status`, `.problem`
│   ├── Unauthorized         401: no key, or one that is not known
│   ├── Forbidden            403: the key has not the scope
│   ├── NotFound             404: there is no such thing, or it is another tenant's
│   ├── Conflict             409: not in the state that it is in
│   ├── Invalid              422: the request is wrong; `.problem.errors` says where
│   └── TooManyRequests      429
├── WorkFailed               work that must succeed did not: `.work`
├── WaitTimedOut             work has not ended in time: `.work` as it was then
└── DownloadCorrupt          what came is not what its digest says; it was not kept
"""

from typing import Any, Final

from memaudit.types import Problem


class MemauditError(Exception):
    """A request was not fulfilled; the text says why in plain words."""


class ServiceUnreachable(MemauditError):
    """Nobody answers at the URL, or whoever does cannot answer now.

    Attributes:
        sent: whether the request may have reached the service, and have had its effect.
        retry_after: in how many seconds the service wants to be asked again; None if it does not say.
    """

    def __init__(self, message: str, *, sent: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.retry_after = retry_after


class AnswerNotUnderstood(MemauditError):
    """What answers at the URL is not a memaudit service, or one that this client cannot speak with."""


class RequestRefused(MemauditError):
    """The service understood the request and refused it.

    Attributes:
        status: of the HTTP answer.
        problem: the problem document; None if there was none.
        retry_after: as of `ServiceUnreachable`.
    """

    def __init__(
        self, message: str, *, status: int, problem: Problem | None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class Unauthorized(RequestRefused):
    """There is no key, or one that the service does not know."""


class Forbidden(RequestRefused):
    """The key has not the scope that this needs."""


class NotFound(RequestRefused):
    """There is no such thing, or it is another tenant's."""


class Conflict(RequestRefused):
    """What was asked cannot be done in the state that the thing is in."""


class Invalid(RequestRefused):
    """The request is wrong; `problem.errors` says where."""


class TooManyRequests(RequestRefused):
    """The service wants to be asked less often."""


class WorkFailed(MemauditError):
    """Work that had to succeed did not.

    Attributes:
        work: as it ended: an audit, a study, an edit, …
    """

    def __init__(self, message: str, work: Any) -> None:
        super().__init__(message)
        self.work = work


class WaitTimedOut(MemauditError):
    """Work has not ended in the time that was given.

    Attributes:
        work: as it was then. It goes on.
    """

    def __init__(self, message: str, work: Any) -> None:
        super().__init__(message)
        self.work = work


class DownloadCorrupt(MemauditError):
    """What was downloaded is not what its digest says; it was not kept."""


REFUSALS: Final[dict[int, type[RequestRefused]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: TooManyRequests,
}
