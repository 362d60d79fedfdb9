"""`/v1/usage`."""

from fastapi import APIRouter

from app.http.dependencies import AuditReader, StoreDependency
from app.usage import service
from app.usage.schemas import UsageOut

router = APIRouter(prefix="/v1/usage", tags=["usage"])


@router.get("")
async def read_usage(principal: AuditReader, store: StoreDependency) -> UsageOut:
    """Read what the key's tenant uses, against its limits."""
    return await store.run(service.read, principal)
