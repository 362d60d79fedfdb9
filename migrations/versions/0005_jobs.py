"""Jobs that wait for something that is away: how often, since when, and an index to find them by."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("waits", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["language_model_id"],
        postgresql_where=sa.text("state = 'queued' AND waiting_since IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_waiting", "jobs")
    op.drop_column("jobs", "waiting_since")
    op.drop_column("jobs", "waits")
