"""Counts of claims, retries, lost leases and tokens for the metrics, and of which release workers are."""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name=op.f("pk_counters")),
        if_not_exists=True,
    )
    release = sa.Column("release", sa.Text(), nullable=True)
    alter(partial(op.add_column, "worker_classes", release, if_not_exists=True))


def downgrade() -> None:
    op.drop_column("worker_classes", "release")
    op.drop_table("counters")
