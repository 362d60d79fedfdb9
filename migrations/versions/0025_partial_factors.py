"""Partial sums of curvature, which several workers collect for one edit, and how far factors have settled."""

from functools import partial

import sqlalchemy as sa
from alembic import op

from migrations.ops import alter

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "partial_factors",
        sa.Column("edit_id", sa.Uuid(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("projection", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["edit_id"], ["edits.id"], name=op.f("fk_partial_factors_edit_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_partial_factors_sha256")),
        sa.PrimaryKeyConstraint("edit_id", "shard", "projection", "side", name=op.f("pk_partial_factors")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_partial_factors_sha256"), "partial_factors", ["sha256"], if_not_exists=True)
    settled = sa.Column("relative_error", sa.Float(), nullable=True)
    alter(partial(op.add_column, "factors", settled, if_not_exists=True))


def downgrade() -> None:
    op.drop_column("factors", "relative_error")
    op.drop_table("partial_factors")
