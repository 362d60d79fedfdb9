"""Ended jobs are found by their age, and changes of resources are told by notification."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RESOURCES = ("audits", "edits", "language_models")


def upgrade() -> None:
    # The sweeper has left it out so far.
    op.execute(
        "UPDATE jobs SET finished_at = clock_timestamp() "
        "WHERE finished_at IS NULL AND state IN ('succeeded', 'failed', 'cancelled')"
    )
    op.create_index(
        "ix_jobs_ended",
        "jobs",
        ["finished_at"],
        postgresql_where="state IN ('succeeded', 'failed', 'cancelled')",
    )
    op.execute(
        "CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_notify('memaudit_changes', NEW.id::text); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE FUNCTION notify_job_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN PERFORM pg_notify('memaudit_changes', "
        "coalesce(NEW.audit_id, NEW.edit_id, NEW.language_model_id)::text); RETURN NULL; END $$"
    )
    for table in RESOURCES:
        op.execute(
            f"CREATE TRIGGER notify_change AFTER UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION notify_change()"
        )
    # Not each heartbeat: only what is shown.
    op.execute(
        "CREATE TRIGGER notify_change AFTER UPDATE ON jobs FOR EACH ROW "
        "WHEN ((OLD.state, OLD.progress, OLD.stage) IS DISTINCT FROM (NEW.state, NEW.progress, NEW.stage)) "
        "EXECUTE FUNCTION notify_job_change()"
    )


def downgrade() -> None:
    for table in (*RESOURCES, "jobs"):
        op.execute(f"DROP TRIGGER notify_change ON {table}")
    op.execute("DROP FUNCTION notify_change()")
    op.execute("DROP FUNCTION notify_job_change()")
    op.drop_index("ix_jobs_ended", table_name="jobs")
