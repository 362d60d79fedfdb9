"""Audits that other work waits for, and what is known of a text once all are scored."""

from functools import partial

import sqlalchemy as sa
from alembic import op

from migrations.ops import alter, build_index

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A foreign key locks the table that it names, which a long COPY may hold.
    alter(
        partial(
            op.create_table,
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
            if_not_exists=True,
        )
    )
    build_index("ix_operation_audits_audit_id", "operation_audits", ["audit_id"])
    alter(
        partial(
            op.create_table,
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
            if_not_exists=True,
        )
    )


def downgrade() -> None:
    # The previous release would not end an audit that has waited for others.
    op.execute(
        "UPDATE audits SET status = 'cancelled', finished_at = clock_timestamp() "
        "WHERE status IN ('queued', 'running') "
        "AND id IN (SELECT owner_id FROM operation_audits WHERE owner_kind = 'audit')"
    )
    op.drop_table("score_findings")
    op.drop_table("operation_audits")
