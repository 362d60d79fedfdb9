"""Audits that other work waits for, and what is known of a text once all are scored."""

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
    op.create_table(
        "score_findings",
        sa.Column("audit_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("q_value", sa.Double(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("reference", sa.Double(), nullable=True),
        sa.Column("equivalent_duplicates", sa.Double(), nullable=True),
        sa.Column("equivalent_low", sa.Double(), nullable=True),
        sa.Column("equivalent_high", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "p_value > 0 AND p_value <= 1 AND q_value > 0 AND q_value <= 1",
            name=op.f("ck_score_findings_probabilities"),
        ),
        sa.ForeignKeyConstraint(
            ["audit_id"], ["audits.id"], name=op.f("fk_score_findings_audit_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("audit_id", "ordinal", name=op.f("pk_score_findings")),
    )


def downgrade() -> None:
    op.drop_table("score_findings")
    op.drop_table("operation_audits")
