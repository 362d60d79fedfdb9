"""Jobs that wait for something that is away: how often, since when, and an index to find them by."""

from functools import partial

import sqlalchemy as sa
from alembic import op

from migrations.ops import alter, build_index

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    waits = sa.Column("waits", sa.Integer(), server_default=sa.text("0"), nullable=False)
    waiting_since = sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True)
    alter(*(partial(op.add_column, "jobs", column, if_not_exists=True) for column in (waits, waiting_since)))
    build_index(
        "ix_jobs_waiting", "jobs", ["language_model_id"], "state = 'queued' AND waiting_since IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_waiting", "jobs")
    op.drop_column("jobs", "waiting_since")
    op.drop_column("jobs", "waits")
