"""All tables, imported so that `metadata` is complete."""

from app.store import audits, idempotency, jobs, language_models, tenants, text_sets  # noqa: F401 - for their tables
from app.store.base import Base

metadata = Base.metadata
