"""All tables, imported so that `Base.metadata` is complete."""

from app.store import audits, idempotency, jobs, language_models, tenants, text_sets
from app.store.base import Base

TABLE_MODULES = (audits, idempotency, jobs, language_models, tenants, text_sets)
metadata = Base.metadata
