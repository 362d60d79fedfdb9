"""A client of the memaudit service: audits of language models for memorization.

    from memaudit import Client

    with Client() as client:  # MEMAUDIT_URL, MEMAUDIT_API_KEY
        audit = client.audits.create(model="mdl_…", text_set="txs_…", metrics=["nl", "extraction"])
        audit = client.audits.wait(audit.id)
        for score in client.audits.scores(audit.id, sort="-nl"):
            ...

`AsyncClient` is the same for asyncio. `memaudit.types` has what the service answers, `memaudit.requests` what
it is sent, `memaudit.errors` what goes wrong.
"""

from memaudit.asynchronous.client import AsyncClient
from memaudit.errors import (
    AnswerNotUnderstood,
    Conflict,
    DownloadCorrupt,
    Forbidden,
    Invalid,
    MemauditError,
    NotFound,
    RequestRefused,
    ServiceUnreachable,
    TooManyRequests,
    Unauthorized,
    WaitTimedOut,
    WorkFailed,
)
from memaudit.synchronous.client import Client

__all__ = [
    "AnswerNotUnderstood",
    "AsyncClient",
    "Client",
    "Conflict",
    "DownloadCorrupt",
    "Forbidden",
    "Invalid",
    "MemauditError",
    "NotFound",
    "RequestRefused",
    "ServiceUnreachable",
    "TooManyRequests",
    "Unauthorized",
    "WaitTimedOut",
    "WorkFailed",
]
