"""Indexes by which a claim finds the next job of a tenant or language model without sorting those that wait.

The one of when leases run out goes: a heartbeat changes that, and nothing else that is indexed.
"""

from alembic import op

from migrations.ops import build_index

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

NEW = "state = 'queued' AND error IS NULL"
AGAIN = "state = 'queued' AND error IS NOT NULL"
INDEXES = {
    "ix_jobs_line_of_tenant": (["queue", "priority", "tenant_id", "id"], NEW),
    "ix_jobs_line_of_language_model": (["queue", "priority", "language_model_id", "id"], NEW),
    "ix_jobs_line_again_of_tenant": (["queue", "priority", "tenant_id", "available_at"], AGAIN),
    "ix_jobs_line_again_of_language_model": (
        ["queue", "priority", "language_model_id", "available_at"],
        AGAIN,
    ),
    "ix_jobs_again": (["queue", "priority", "available_at"], AGAIN),
    "ix_jobs_running": (["tenant_id"], "state = 'running'"),
}


def upgrade() -> None:
    for name, (columns, where) in INDEXES.items():
        build_index(name, "jobs", columns, where)
    with op.get_context().autocommit_block():
        op.drop_index("ix_jobs_leased", table_name="jobs", if_exists=True, postgresql_concurrently=True)


def downgrade() -> None:
    build_index("ix_jobs_leased", "jobs", ["lease_expires_at"], "state = 'running'")
    for name in INDEXES:
        op.drop_index(name, table_name="jobs", if_exists=True)
