"""Expected failures. Each is a problem document (RFC 9457) with its own status and type.

    MemauditError
    ├── BadRequest                400
    │   └── IdempotencyKeyMissing
    ├── Unauthorized              401
    ├── InsufficientScope         403
    ├── CrossSiteRequest          403
    ├── NotFound                  404
    ├── Conflict                  409
    │   ├── AlreadyTerminal
    │   ├── AuditNotSucceeded
    │   ├── EvidenceFormatNotInstalled
    │   ├── EvidenceNotReady
    │   ├── IdempotencyInFlight
    │   ├── LabelTaken
    │   ├── LanguageModelNotReady
    │   ├── LineNameTaken
    │   ├── NothingToCompare
    │   ├── NothingToJudge
    │   ├── ResourceInUse
    │   ├── StudyNotSucceeded
    │   └── TextSetNotReady
    ├── PreconditionFailed        412
    ├── BodyTooLarge              413
    ├── UnsupportedMediaType      415
    ├── RangeNotSatisfiable       416
    ├── SigningUnavailable        503
    ├── ValidationFailed          422
    │   ├── DoesNotFit
    │   ├── IdempotencyMismatch
    │   └── SourceNotAllowed
    └── JobFailed                 recorded on a resource; some are raised over HTTP too
        ├── LanguageModelRejected 422 what was given cannot be used: the client's to mend
        ├── LanguageModelChanged  409
        ├── ImportFailed          422
        ├── ScoringFailed         422
        ├── NoSuchPrefixToken     422
        ├── ReferenceIsSame       422
        ├── CompanionFailed       424
        ├── SubjectFailed         424
        ├── VersionIncomplete     424
        ├── EditFailed            422
        │   └── NoFeasibleSetting
        ├── ArtifactNameTaken     409
        ├── ShardPoisoned         500 this service or what it stands on: nothing to mend in the request
        ├── ScoresMissing         500
        ├── JobCrashed            500
        ├── TextsAwaited          500
        ├── HubUnreachable        500
        ├── ArtifactCorrupt       500
        ├── BlobMissing           500
        ├── StorageFull           507
        ├── StorageUnavailable    503
        └── ServiceUnavailable    503
            └── Overloaded

No message may contain a submitted text: they are logged, stored and answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar

PROBLEM_BASE = "https://memaudit.dev/problems/"


@dataclass(frozen=True)
class FieldError:
    """Where in the request something is wrong (a JSON pointer) and what (a stable code)."""

    pointer: str
    code: str


class MemauditError(Exception):
    """An expected failure: its text is shown to the client, so it says what to do next."""

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def problem(self) -> dict[str, Any]:
        """The failure as a problem document, without the request's id."""
        return {
            "type": PROBLEM_BASE + self.slug,
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail,
        }


class BadRequest(MemauditError):
    """The request cannot be read."""

    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"
    title = "Bad request"


class IdempotencyKeyMissing(BadRequest):
    """A request that creates work came without an Idempotency-Key header."""

    slug = "idempotency-key-missing"
    title = "Idempotency-Key is required"

    def __init__(self) -> None:
        super().__init__("Send an Idempotency-Key header: a fresh random value for each new piece of work.")


class Unauthorized(MemauditError):
    """The request has no valid API key."""

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"
    title = "Unauthorized"


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


class NotFound(MemauditError):
    """There is no such resource for this tenant."""

    status = HTTPStatus.NOT_FOUND
    slug = "not-found"
    title = "Not found"


class Conflict(MemauditError):
    """The resource is in a state that forbids the request."""

    status = HTTPStatus.CONFLICT
    slug = "conflict"
    title = "Conflict"


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


class EvidenceFormatNotInstalled(Conflict):
    """A format needs a package that is not installed where the API runs; the message says which."""

    slug = "evidence-format-not-installed"
    title = "Evidence format not installed"


class EvidenceNotReady(Conflict):
    """Evidence is given of work that has succeeded."""

    slug = "evidence-not-ready"
    title = "Evidence not ready"


class IdempotencyInFlight(Conflict):
    """A request with the same Idempotency-Key is being answered right now."""

    slug = "idempotency-in-flight"
    title = "A request with this Idempotency-Key is in flight"


class LanguageModelNotReady(Conflict):
    """The language model was rejected or deleted, so nothing can be scored with it."""

    slug = "language-model-not-ready"
    title = "Language model not ready"


class NothingToJudge(Conflict):
    """The subject of a gate has ended without a result."""

    slug = "nothing-to-judge"
    title = "Nothing to judge"


class NothingToCompare(Conflict):
    """The first version of a model line has none before it."""

    slug = "nothing-to-compare"
    title = "Nothing to compare"


class LineNameTaken(Conflict):
    """The tenant has a model line of this name."""

    slug = "line-name-taken"
    title = "Model line name taken"


class LabelTaken(Conflict):
    """The model line has a version of this label, which has succeeded or may."""

    slug = "label-taken"
    title = "Version label taken"


class ResourceInUse(Conflict):
    """Unfinished work still needs the resource."""

    slug = "resource-in-use"
    title = "Resource in use"


class TextSetNotReady(Conflict):
    """The text set is still being imported, or its import has failed."""

    slug = "text-set-not-ready"
    title = "Text set not ready"


class PreconditionFailed(MemauditError):
    """The file is not the one that If-Match names."""

    status = HTTPStatus.PRECONDITION_FAILED
    slug = "precondition-failed"
    title = "Precondition failed"


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


class RangeNotSatisfiable(MemauditError):
    """The range begins after the end of the file, whose size is `size`."""

    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    slug = "range-not-satisfiable"
    title = "Range not satisfiable"

    def __init__(self, detail: str, size: int) -> None:
        super().__init__(detail)
        self.size = size


class ValidationFailed(MemauditError):
    """The request was read but breaks the contract; `errors` says where."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "validation-failed"
    title = "Validation failed"

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []

    def problem(self) -> dict[str, Any]:
        """The problem document with its list of field errors."""
        errors = [{"pointer": error.pointer, "code": error.code} for error in self.errors]
        return super().problem() | {"errors": errors}


class IdempotencyMismatch(ValidationFailed):
    """The Idempotency-Key was used before with another request."""

    slug = "idempotency-mismatch"
    title = "Idempotency-Key was used with another request"


class DoesNotFit(ValidationFailed):
    """The work takes more memory than any worker has."""

    slug = "does-not-fit"
    title = "Does not fit in memory"


class SourceNotAllowed(ValidationFailed):
    """The path of a language model lies outside the allow-listed roots."""

    slug = "source-not-allowed"
    title = "Source not allowed"


class SigningUnavailable(MemauditError):
    """This instance has no key to sign evidence with; the detail says what to set."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "signing-unavailable"
    title = "Signing unavailable"


class JobFailed(MemauditError):
    """Work ended without a result.

    `retryable` says whether another attempt could help. `transient` says that something the work needs is
    away: it waits for that, up to a limit, and no attempt is counted.

    `findings` are columns of the audit or edit to write although it failed.
    """

    slug = "job-failed"
    title = "Job failed"
    retryable: ClassVar[bool] = False
    transient: ClassVar[bool] = False
    findings: Mapping[str, object] = MappingProxyType({})


class LanguageModelRejected(JobFailed):
    """The checkpoint cannot be used: not safetensors, custom code, unsupported, unreadable."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "language-model-rejected"
    title = "Language model rejected"


class LanguageModelChanged(JobFailed):
    """The files of the checkpoint no longer match the digests recorded at registration."""

    status = HTTPStatus.CONFLICT
    slug = "language-model-changed"
    title = "Language model changed"


class ImportFailed(JobFailed):
    """A preset's texts cannot be had: the hub refuses or may not be asked, or the data has changed."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "import-failed"
    title = "Import failed"


class ShardPoisoned(JobFailed):
    """Every attempt at a job ended without an answer: the worker died or lost its lease."""

    slug = "attempts-exhausted"
    title = "Attempts exhausted"


class ScoringFailed(JobFailed):
    """The language model gave a number that is not finite; the detail says what to change."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "scoring-failed"
    title = "Scoring failed"


class ScoresMissing(JobFailed):
    """An audit has more or fewer score rows than texts."""

    slug = "scores-missing"
    title = "Scores missing"


class ReferenceIsSame(JobFailed):
    """The reference model of an audit has the same weights and tokenizer as the audited one."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "reference-is-same"
    title = "Reference model is the same"


class NoSuchPrefixToken(JobFailed):
    """The language model lacks the prefix token that was asked for."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "no-such-prefix-token"
    title = "No such prefix token"


class CompanionFailed(JobFailed):
    """An audit that other work waited for failed or was cancelled; the detail says which."""

    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "companion-failed"
    title = "Companion audit failed"


class SubjectFailed(JobFailed):
    """What a gate judges failed or was cancelled; the detail says which."""

    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "subject-failed"
    title = "Subject of the gate failed"


class VersionIncomplete(JobFailed):
    """An audit, a study or a gate of a model version failed or was cancelled; the detail says which."""

    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "version-incomplete"
    title = "Model version incomplete"


class JobCrashed(JobFailed):
    """The computation raised an error that nobody expected; another attempt may get through."""

    slug = "job-crashed"
    title = "Job crashed"
    retryable = True


class TextsAwaited(JobFailed):
    """The texts that the work needs are being imported."""

    slug = "texts-awaited"
    title = "Texts are being imported"
    transient = True


class HubUnreachable(JobFailed):
    """The hub that holds the checkpoint or the data set did not answer."""

    slug = "hub-unreachable"
    title = "Hub unreachable"
    transient = True


class EditFailed(JobFailed):
    """The edit cannot be made from what was given; the detail says what to change."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "edit-failed"
    title = "Edit failed"


class NoFeasibleSetting(EditFailed):
    """Every setting that a search tried costs more than the constraint allows."""

    slug = "no-feasible-setting"
    title = "No feasible setting"

    def __init__(self, detail: str, frontier: list[dict[str, Any]]) -> None:
        super().__init__(detail)
        self.findings = {"frontier": {"points": frontier}}


class ArtifactCorrupt(JobFailed):
    """Stored bytes do not match their digest. They are never served and never used."""

    slug = "artifact-corrupt"
    title = "Artifact corrupt"


class ArtifactNameTaken(JobFailed):
    """The tenant has an artifact of this name already."""

    status = HTTPStatus.CONFLICT
    slug = "artifact-name-taken"
    title = "Artifact name taken"


class BlobMissing(JobFailed):
    """A blob that an artifact needs is not in the store any more; putting the files again helps."""

    slug = "blob-missing"
    title = "Blob missing"
    retryable = True


class StorageFull(JobFailed):
    """The database or the artifact store has no room left."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    slug = "storage-full"
    title = "Storage full"


class StorageUnavailable(JobFailed):
    """The artifact store cannot be reached right now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "storage-unavailable"
    title = "Artifact store unavailable"
    transient = True


class ServiceUnavailable(JobFailed):
    """The database cannot be reached right now; the request changed nothing and can be repeated."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "service-unavailable"
    title = "Service unavailable"
    transient = True


class Overloaded(ServiceUnavailable):
    """More is asked of this process than it can answer in time; nothing was done for the request."""

    slug = "overloaded"
    title = "Overloaded"
    retry_after = 1

    def __init__(self) -> None:
        super().__init__("More requests came than can be answered now; repeat this one after Retry-After.")
