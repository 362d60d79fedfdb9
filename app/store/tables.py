"""All tables, imported so that `metadata` is complete."""

from app.store import (  # noqa: F401 - for their tables
    api_keys,
    artifacts,
    audits,
    companions,
    counters,
    data_keys,
    edits,
    erasure_receipts,
    events,
    factors,
    gates,
    idempotency,
    language_models,
    model_lines,
    page_sessions,
    partial_factors,
    policies,
    score_findings,
    scores,
    studies,
    tenants,
    text_sets,
    texts,
    throughput,
    token_evidence,
    trail,
    usage,
    webhook_deliveries,
    webhooks,
)
from app.store.blobs import rows as blobs  # noqa: F401 - for its tables
from app.store.core.base import Base
from app.store.jobs import job as jobs  # noqa: F401 - for its tables

metadata = Base.metadata
