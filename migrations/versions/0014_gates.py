"""Policies, which are immutable, and gates, which judge audits, studies and edits by them."""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter, build_index

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # A foreign key locks the table that it names, which a long COPY may hold.
    alter(partial(_create_policies), partial(_create_gates))
    for table in ("policies", "gates"):
        build_index(f"ix_{table}_tenant_id_id", table, ["tenant_id", "id"])
    for column in ("policy_id", "subject_id"):
        build_index(f"ix_gates_{column}", "gates", [column])
    alter(
        partial(
            op.execute,
            "CREATE OR REPLACE TRIGGER notify_change AFTER UPDATE ON gates "
            "FOR EACH ROW EXECUTE FUNCTION notify_change()",
        )
    )


def _create_policies() -> None:
    op.create_table(
        "policies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_policies_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("tenant_id", "name", "version", name=op.f("uq_policies_tenant_id_name_version")),
        if_not_exists=True,
    )


def _create_gates() -> None:
    op.create_table(
        "gates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("preregistered", sa.Boolean(), nullable=False),
        sa.Column("text_set_sha256", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_gates_status"),
        ),
        sa.CheckConstraint("outcome IN ('pass', 'fail', 'inconclusive')", name=op.f("ck_gates_outcome")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_gates_tenant_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["policy_id"], ["policies.id"], name=op.f("fk_gates_policy_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gates")),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.execute("DELETE FROM jobs WHERE owner_kind = 'gate'")
    op.drop_table("gates")
    op.drop_table("policies")
