"""Ended jobs are found by their age, and changes of resources are told by notification."""

from functools import partial

from alembic import op

from migrations.ops import alter, build_index, update_in_batches

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RESOURCES = ("audits", "edits", "language_models")
ENDED = "state IN ('succeeded', 'failed', 'cancelled')"
# The sweeper has left it out so far.
FILL = (
    "UPDATE jobs SET finished_at = clock_timestamp() WHERE id IN (SELECT id FROM jobs WHERE id > :after "
    "AND finished_at IS NULL AND state IN ('succeeded', 'failed', 'cancelled') ORDER BY id LIMIT :limit) "
    "RETURNING id"
)
FUNCTIONS = (
    (
        "CREATE OR REPLACE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_notify('memaudit_changes', NEW.id::text); RETURN NULL; END $$"
    ),
    (
        "CREATE OR REPLACE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_notify('memaudit_changes', "
        "coalesce(NEW.audit_id, NEW.edit_id, NEW.language_model_id)::text); RETURN NULL; END $$"
    ),
)
TRIGGERS = (
    *(
        f"CREATE OR REPLACE TRIGGER notify_change AFTER UPDATE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION notify_change()"
        for table in RESOURCES
    ),
    # Not each heartbeat: only what is shown.
    (
        "CREATE OR REPLACE TRIGGER notify_change AFTER UPDATE ON jobs FOR EACH ROW "
        "WHEN ((OLD.state, OLD.progress, OLD.stage) IS DISTINCT FROM (NEW.state, NEW.progress, NEW.stage)) "
        "EXECUTE FUNCTION notify_job_change()"
    ),
)


def upgrade() -> None:
    update_in_batches(FILL)
    build_index("ix_jobs_ended", "jobs", ["finished_at"], ENDED)
    alter(*(partial(op.execute, statement) for statement in (*FUNCTIONS, *TRIGGERS)))


def downgrade() -> None:
    for table in (*RESOURCES, "jobs"):
        op.execute(f"DROP TRIGGER notify_change ON {table}")
    op.execute("DROP FUNCTION notify_change()")
    op.execute("DROP FUNCTION notify_job_change()")
    op.drop_index("ix_jobs_ended", table_name="jobs")
