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
    │   ├── OwnTenant
    │   ├── ResourceInUse
    │   ├── StudyNotSucceeded
    │   ├── TenantNameTaken
    │   ├── TextSetNotReady
    │   ├── TooManyKeys
    │   ├── TooManySecrets
    │   ├── TooManyTests
    │   ├── TooManyWebhooks
    │   └── WebhookDisabled
    ├── PreconditionFailed        412
    ├── BodyTooLarge              413
    ├── UnsupportedMediaType      415
    ├── RangeNotSatisfiable       416
    ├── RequestTimedOut           408
    ├── AddressTooLong            414
    ├── TooManyRequests           429
    │   ├── QuotaExceeded
    │   ├── RateLimited
    │   └── TooManyWrongKeys
    ├── HeadersTooLarge           431
    ├── TooManyConnections        503
    ├── SigningUnavailable        503
    ├── RenderingTimedOut         503
    ├── Overloaded                503
    ├── ValidationFailed          422
    │   ├── DoesNotFit
    │   ├── IdempotencyMismatch
    │   └── SourceNotAllowed
    └── JobFailed                 recorded on a resource; some are raised over HTTP too
        ├── LanguageModelRejected 422 what was given cannot be used: the client's to mend
        ├── LanguageModelChanged  409
        ├── ImportFailed          422
        ├── ScoringFailed         422
        ├── TokenizingFailed      422
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
        ├── SealBroken            500
        └── ServiceUnavailable    503
            └── KeyUnavailable

Each stands in the file of its subject, and is imported from here.

No message may contain a submitted text: they are logged, stored and answered.
"""

from app.errors.access import OwnTenant, TenantNameTaken, TooManyKeys, TooManyWrongKeys
from app.errors.base import (
    PROBLEM_BASE,
    Conflict,
    FieldError,
    JobFailed,
    MemauditError,
    NotFound,
    TooManyRequests,
    ValidationFailed,
)
from app.errors.evidence import (
    EvidenceFormatNotInstalled,
    EvidenceNotReady,
    RenderingTimedOut,
    SigningUnavailable,
)
from app.errors.gates import (
    NothingToJudge,
    SubjectFailed,
)
from app.errors.language_models import (
    LanguageModelChanged,
    LanguageModelNotReady,
    LanguageModelRejected,
    NoSuchPrefixToken,
    ReferenceIsSame,
    SourceNotAllowed,
)
from app.errors.limits import QuotaExceeded, RateLimited
from app.errors.model_lines import (
    LabelTaken,
    LineNameTaken,
    NothingToCompare,
    VersionIncomplete,
)
from app.errors.requests import (
    AddressTooLong,
    BadRequest,
    BodyTooLarge,
    CrossSiteRequest,
    HeadersTooLarge,
    IdempotencyInFlight,
    IdempotencyKeyMissing,
    IdempotencyMismatch,
    InsufficientScope,
    Overloaded,
    PreconditionFailed,
    RangeNotSatisfiable,
    RequestTimedOut,
    TooManyConnections,
    Unauthorized,
    UnsupportedMediaType,
)
from app.errors.storage import (
    ArtifactCorrupt,
    ArtifactNameTaken,
    BlobMissing,
    HubUnreachable,
    KeyUnavailable,
    SealBroken,
    ServiceUnavailable,
    StorageFull,
    StorageUnavailable,
)
from app.errors.text_sets import (
    ImportFailed,
    TextsAwaited,
    TextSetNotReady,
)
from app.errors.webhooks import TooManySecrets, TooManyTests, TooManyWebhooks, WebhookDisabled
from app.errors.work import (
    AlreadyTerminal,
    AuditNotSucceeded,
    CompanionFailed,
    DoesNotFit,
    EditFailed,
    JobCrashed,
    NoFeasibleSetting,
    ResourceInUse,
    ScoresMissing,
    ScoringFailed,
    ShardPoisoned,
    StudyNotSucceeded,
    TokenizingFailed,
)

__all__ = [
    "PROBLEM_BASE",
    "AddressTooLong",
    "AlreadyTerminal",
    "ArtifactCorrupt",
    "ArtifactNameTaken",
    "AuditNotSucceeded",
    "BadRequest",
    "BlobMissing",
    "BodyTooLarge",
    "CompanionFailed",
    "Conflict",
    "CrossSiteRequest",
    "DoesNotFit",
    "EditFailed",
    "EvidenceFormatNotInstalled",
    "EvidenceNotReady",
    "FieldError",
    "HeadersTooLarge",
    "HubUnreachable",
    "IdempotencyInFlight",
    "IdempotencyKeyMissing",
    "IdempotencyMismatch",
    "ImportFailed",
    "InsufficientScope",
    "JobCrashed",
    "JobFailed",
    "KeyUnavailable",
    "LabelTaken",
    "LanguageModelChanged",
    "LanguageModelNotReady",
    "LanguageModelRejected",
    "LineNameTaken",
    "MemauditError",
    "NoFeasibleSetting",
    "NoSuchPrefixToken",
    "NotFound",
    "NothingToCompare",
    "NothingToJudge",
    "Overloaded",
    "OwnTenant",
    "PreconditionFailed",
    "QuotaExceeded",
    "RangeNotSatisfiable",
    "RateLimited",
    "ReferenceIsSame",
    "RenderingTimedOut",
    "RequestTimedOut",
    "ResourceInUse",
    "ScoresMissing",
    "ScoringFailed",
    "SealBroken",
    "ServiceUnavailable",
    "ShardPoisoned",
    "SigningUnavailable",
    "SourceNotAllowed",
    "StorageFull",
    "StorageUnavailable",
    "StudyNotSucceeded",
    "SubjectFailed",
    "TenantNameTaken",
    "TextSetNotReady",
    "TextsAwaited",
    "TokenizingFailed",
    "TooManyConnections",
    "TooManyKeys",
    "TooManyRequests",
    "TooManySecrets",
    "TooManyTests",
    "TooManyWebhooks",
    "TooManyWrongKeys",
    "Unauthorized",
    "UnsupportedMediaType",
    "ValidationFailed",
    "VersionIncomplete",
    "WebhookDisabled",
]
