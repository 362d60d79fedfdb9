"""Usage as it is answered."""

from datetime import datetime
from typing import Literal

from app.contracts.base import Described
from app.contracts.tenants import Quotas


class Used(Described):
    """What a tenant uses now."""

    concurrent_operations: int
    stored_texts: int
    stored_bytes: int
    gpu_seconds_today: float
    """Since midnight in UTC, with the jobs that run now."""
    gpu_seconds_this_month: float


class UsageOut(Described):
    """What a tenant uses, and what it may."""

    object: Literal["usage"] = "usage"
    tenant: str
    used: Used
    limits: Quotas
    """The tenant's quotas, and the instance's defaults where it has none of its own; null for no limit."""
    day_ends_at: datetime
    """When the GPU-seconds of a day begin anew."""
    month_ends_at: datetime
