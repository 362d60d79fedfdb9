"""Audits that other work waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "operation_audits",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("audit_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_operation_audits_audit_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner_id", "role", "position", name=op.f("pk_operation_audits")),
    )
    op.create_index(op.f("ix_operation_audits_audit_id"), "operation_audits", ["audit_id"])


def downgrade() -> None:
    op.drop_table("operation_audits")
