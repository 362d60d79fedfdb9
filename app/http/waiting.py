"""What work waits for, as it is answered."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel

from app.http.problems import Problem
from app.store.jobs.job import Job


class Waiting(BaseModel):
    """Something that the work needs is away. It is tried again by itself; no attempt is counted meanwhile.

    `reason` says what was away at the last try, `attempts` how often it was tried in vain since `since`, and
    `next_try_at` from when a worker tries again.
    """

    reason: Problem
    attempts: int
    since: datetime
    next_try_at: datetime

    @classmethod
    def of(cls, job: Job | None) -> Self | None:
        """What a waiting job waits for; None when there is no such job."""
        if job is None or job.waiting_since is None:
            return None
        return cls(
            reason=Problem.model_validate(job.error),
            attempts=job.waits,
            since=job.waiting_since,
            next_try_at=job.available_at,
        )
