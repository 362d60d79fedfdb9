"""Model lines with their versions, and events, which tell in order of commit what ended and how.

Processes of the previous release write no events; the sweep ends the versions whose last part they end.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter, build_index

revision = "0017"
down_revision = "0019"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)

# Deferred to the commit, and one transaction after another from there on: who reads a place sees all before it.
# Nothing is locked after it but by the commit itself, so that none waits for the other in turn.
PLACE_EVENT = (
    "CREATE OR REPLACE FUNCTION place_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "PERFORM pg_advisory_xact_lock(hashtextextended('memaudit.events', 0)); "
    "UPDATE events SET place = nextval('events_place') WHERE id = NEW.id; "
    "PERFORM pg_notify('memaudit_changes', id::text), pg_notify('memaudit_changes', model_line_id::text) "
    "FROM model_versions WHERE id = NEW.model_version_id; "
    "RETURN NULL; END $$"
)
# What a version shows is what its audits have done, as of a study.
NOTIFY_JOB = (
    "CREATE OR REPLACE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
    "BEGIN IF NEW.owner_id IS NOT NULL THEN "
    "PERFORM pg_notify('memaudit_changes', NEW.owner_id::text); "
    "PERFORM pg_notify('memaudit_changes', owner_id::text) FROM operation_audits "
    "WHERE audit_id = NEW.owner_id AND owner_kind IN ('study'{versions}); "
    "END IF; RETURN NULL; END $$"
)


def upgrade() -> None:
    # A foreign key locks the table that it names, which a long COPY may hold.
    alter(partial(_create_lines), partial(_create_versions), partial(_create_events))
    for table in ("model_lines", "model_versions"):
        build_index(f"ix_{table}_tenant_id_id", table, ["tenant_id", "id"])
    build_index("ix_model_versions_model_line_id_id", "model_versions", ["model_line_id", "id"])
    for column in ("language_model_id", "previous_id"):
        build_index(f"ix_model_versions_{column}", "model_versions", [column])
    for column in ("tenant_id", "model_version_id"):
        build_index(f"ix_events_{column}_place", "events", [column, "place"])
    for table in ("studies", "gates"):
        alter(*(partial(op.execute, change) for change in _made_for_a_version(table)))
        build_index(f"ix_{table}_model_version_id", table, ["model_version_id"])
    alter(
        partial(
            op.execute,
            "CREATE OR REPLACE TRIGGER notify_change AFTER UPDATE ON model_versions "
            "FOR EACH ROW EXECUTE FUNCTION notify_change()",
        )
    )
    op.execute("CREATE SEQUENCE IF NOT EXISTS events_place OWNED BY events.place")
    op.execute(PLACE_EVENT)
    op.execute("DROP TRIGGER IF EXISTS place_event ON events")
    op.execute(
        "CREATE CONSTRAINT TRIGGER place_event AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION place_event()"
    )
    op.execute(NOTIFY_JOB.format(versions=", 'model_version'"))


def _made_for_a_version(table: str) -> tuple[str, str, str]:
    name = f"fk_{table}_model_version_id"
    return (
        f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS model_version_id UUID",
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}",
        f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (model_version_id) REFERENCES model_versions (id)",
    )


def _create_lines() -> None:
    op.create_table(
        "model_lines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("checks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_model_lines_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_lines")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_model_lines_tenant_id_name")),
        if_not_exists=True,
    )


def _create_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("model_line_id", sa.Uuid(), nullable=False),
        sa.Column("language_model_id", sa.Uuid(), nullable=False),
        sa.Column("previous_id", sa.Uuid(), nullable=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_model_versions_status"),
        ),
        sa.CheckConstraint(
            "outcome IN ('pass', 'fail', 'inconclusive')", name=op.f("ck_model_versions_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_model_versions_tenant_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model_line_id"],
            ["model_lines.id"],
            name=op.f("fk_model_versions_model_line_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["language_model_id"], ["language_models.id"], name=op.f("fk_model_versions_language_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["previous_id"], ["model_versions.id"], name=op.f("fk_model_versions_previous_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        if_not_exists=True,
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_events_tenant_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_events_model_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.execute(NOTIFY_JOB.format(versions=""))
    op.drop_table("events")
    op.execute("DROP FUNCTION place_event()")
    # Their audits, studies and gates are ordinary ones, which go on.
    op.execute("DELETE FROM operation_audits WHERE owner_kind = 'model_version'")
    for table in ("studies", "gates"):
        op.drop_column(table, "model_version_id")
    op.drop_table("model_versions")
    op.drop_table("model_lines")
