"""A job names what it works for by kind and id, and need not need a language model.

Processes of the previous release go on meanwhile: a trigger fills in the owners of what they insert, and the
columns by which they find them (audit_id, edit_id) are written for as long as they may run. The next release
lets owner_kind and owner_id be NOT NULL and drops the trigger, those columns and their indexes.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

from migrations.ops import alter, build_index, update_in_batches

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_jobs_owner_id_state": (["owner_id", "state"], None),
    "ix_jobs_owner_id_waiting": (["owner_id"], "state = 'queued' AND waiting_since IS NOT NULL"),
}
# The trigger does it; rows that others hold are waited for, a few at a time.
FILL = (
    "UPDATE jobs SET owner_kind = NULL WHERE id IN (SELECT id FROM jobs WHERE id > :after AND owner_kind IS NULL "
    "ORDER BY id LIMIT :limit) RETURNING id"
)
STATEMENTS = (
    (
        "CREATE OR REPLACE FUNCTION fill_job_owner() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.audit_id IS NOT NULL THEN NEW.owner_kind := 'audit'; NEW.owner_id := NEW.audit_id; "
        "ELSIF NEW.edit_id IS NOT NULL THEN NEW.owner_kind := 'edit'; NEW.owner_id := NEW.edit_id; "
        "ELSE NEW.owner_kind := 'language_model'; NEW.owner_id := NEW.language_model_id; END IF; "
        "RETURN NEW; END $$"
    ),
    (
        "CREATE OR REPLACE TRIGGER fill_job_owner BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW "
        "WHEN (NEW.owner_kind IS NULL) EXECUTE FUNCTION fill_job_owner()"
    ),
    (
        "CREATE OR REPLACE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN IF NEW.owner_id IS NOT NULL THEN "
        "PERFORM pg_notify('memaudit_changes', NEW.owner_id::text); END IF; RETURN NULL; END $$"
    ),
)


def upgrade() -> None:
    owner_kind = sa.Column("owner_kind", sa.Text(), nullable=True)
    owner_id = sa.Column("owner_id", sa.Uuid(), nullable=True)
    alter(
        *(partial(op.add_column, "jobs", column, if_not_exists=True) for column in (owner_kind, owner_id)),
        partial(op.alter_column, "jobs", "language_model_id", nullable=True),
        *(partial(op.execute, statement) for statement in STATEMENTS),
    )
    update_in_batches(FILL)
    for name, (columns, where) in INDEXES.items():
        build_index(name, "jobs", columns, where)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="jobs", if_exists=True)
    op.execute(
        "CREATE OR REPLACE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_notify('memaudit_changes', "
        "coalesce(NEW.audit_id, NEW.edit_id, NEW.language_model_id)::text); RETURN NULL; END $$"
    )
    op.execute("DROP TRIGGER fill_job_owner ON jobs")
    op.execute("DROP FUNCTION fill_job_owner()")
    # What the previous release cannot run.
    op.execute("DELETE FROM jobs WHERE language_model_id IS NULL")
    op.execute("UPDATE jobs SET queue = 'gpu' WHERE state = 'queued'")
    op.alter_column("jobs", "language_model_id", nullable=False)
    op.drop_column("jobs", "owner_id")
    op.drop_column("jobs", "owner_kind")
