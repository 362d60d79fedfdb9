"""The classes of workers, how fast they were, and the shape of language models: what estimates stand on."""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)
SUMS = ("jobs", "units", "seconds", "inverse_units", "seconds_per_unit")


def upgrade() -> None:
    op.create_table(
        "worker_classes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("name", "queue", name=op.f("pk_worker_classes")),
        if_not_exists=True,
    )
    key = ("worker_class", "kind", "measured", "language_model_digest")
    op.create_table(
        "throughput",
        *(sa.Column(name, sa.Text(), nullable=False) for name in key),
        sa.Column("parameter_count", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.Float(), nullable=False) for name in SUMS),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_throughput")),
        if_not_exists=True,
    )
    dimensions = sa.Column(
        "dimensions", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
    )
    alter(partial(op.add_column, "language_models", dimensions, if_not_exists=True))


def downgrade() -> None:
    op.drop_column("language_models", "dimensions")
    op.drop_table("throughput")
    op.drop_table("worker_classes")
