"""Reading what a tenant uses."""

from sqlalchemy.orm import Session

from app.store.core.identifiers import Prefix, format_id
from app.store.tenants import Principal
from app.store.usage import count_active, gpu_seconds, stored
from app.usage.schemas import UsageOut, Used


def read(session: Session, principal: Principal) -> UsageOut:
    """What the tenant of a principal uses, against its limits."""
    texts, size = stored(session, principal.tenant_id)
    seconds = gpu_seconds(session, principal.tenant_id)
    return UsageOut(
        tenant=format_id(Prefix.TENANT, principal.tenant_id),
        used=Used(
            concurrent_operations=count_active(session, principal.tenant_id),
            stored_texts=texts,
            stored_bytes=size,
            gpu_seconds_today=seconds.today,
            gpu_seconds_this_month=seconds.this_month,
        ),
        limits=principal.quotas,
        day_ends_at=seconds.day_ends_at,
        month_ends_at=seconds.month_ends_at,
    )
