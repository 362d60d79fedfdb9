"""Studies: one text set under several language models, compared when their audits have ended."""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter, build_index

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)

# What a study shows is what its audits have done. A shard's end is an update of its job, so jobs tell of it all.
NOTIFY_JOB = (
    "CREATE OR REPLACE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
    "BEGIN IF NEW.owner_id IS NOT NULL THEN "
    "PERFORM pg_notify('memaudit_changes', NEW.owner_id::text); "
    "PERFORM pg_notify('memaudit_changes', owner_id::text) FROM operation_audits "
    "WHERE audit_id = NEW.owner_id AND owner_kind = 'study'; "
    "END IF; RETURN NULL; END $$"
)
NOTIFY_JOB_BEFORE = (
    "CREATE OR REPLACE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
    "BEGIN IF NEW.owner_id IS NOT NULL THEN "
    "PERFORM pg_notify('memaudit_changes', NEW.owner_id::text); END IF; RETURN NULL; END $$"
)


def upgrade() -> None:
    # A foreign key locks the table that it names, which a long COPY may hold.
    alter(
        partial(
            op.create_table,
            "studies",
            sa.Column("id", sa.Uuid(), nullable=False),
            sa.Column("tenant_id", sa.Uuid(), nullable=False),
            sa.Column("name", sa.Text(), nullable=False),
            sa.Column("text_set_id", sa.Uuid(), nullable=False),
            sa.Column("control_text_set_id", sa.Uuid(), nullable=True),
            sa.Column("text_set_sha256", sa.Text(), nullable=False),
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
                name=op.f("ck_studies_status"),
            ),
            sa.ForeignKeyConstraint(
                ["tenant_id"], ["tenants.id"], name=op.f("fk_studies_tenant_id"), ondelete="CASCADE"
            ),
            sa.ForeignKeyConstraint(["text_set_id"], ["text_sets.id"], name=op.f("fk_studies_text_set_id")),
            sa.ForeignKeyConstraint(
                ["control_text_set_id"], ["text_sets.id"], name=op.f("fk_studies_control_text_set_id")
            ),
            sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
            if_not_exists=True,
        )
    )
    build_index("ix_studies_tenant_id_id", "studies", ["tenant_id", "id"])
    for column in ("text_set_id", "control_text_set_id"):
        build_index(f"ix_studies_{column}", "studies", [column])
    alter(
        partial(
            op.execute,
            "CREATE OR REPLACE TRIGGER notify_change AFTER UPDATE ON studies "
            "FOR EACH ROW EXECUTE FUNCTION notify_change()",
        )
    )
    op.execute(NOTIFY_JOB)


def downgrade() -> None:
    op.execute(NOTIFY_JOB_BEFORE)
    # Their audits are ordinary ones, which go on.
    op.execute("DELETE FROM jobs WHERE owner_kind = 'study'")
    op.drop_table("studies")
