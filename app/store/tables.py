"""All tables, imported so that `metadata` is complete."""

from app.store import (  # noqa: F401 - for their tables
    artifacts,
    audits,
    blobs,
    edits,
    idempotency,
    jobs,
    language_models,
    tenants,
    text_sets,
)
from app.store.base import Base

metadata = Base.metadata
