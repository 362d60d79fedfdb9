"""What tenants use: seconds of workers by day, and indexes to count what has not ended and what is stored."""

from functools import partial

import sqlalchemy as sa
from alembic import op

from migrations.ops import alter, build_index

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

ACTIVE = {
    **dict.fromkeys(
        ("audits", "studies", "edits", "gates", "model_versions"), "status IN ('queued', 'running')"
    ),
    "language_models": "status = 'queued'",
    "text_sets": "status = 'importing'",
}
# An attempt ends when its job leaves the state: at its end, when it is put back, cancelled or taken back. What a
# worker did after its lease is nobody's.
COUNT_SECONDS = (
    "CREATE OR REPLACE FUNCTION count_job_seconds() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "INSERT INTO job_seconds (tenant_id, queue, day, seconds) VALUES (OLD.tenant_id, OLD.queue, "
    "(clock_timestamp() AT TIME ZONE 'UTC')::date, greatest(0, extract(epoch FROM "
    "least(clock_timestamp(), OLD.lease_expires_at) - OLD.claimed_at))); RETURN NULL; END $$"
)
TRIGGER = (
    "CREATE OR REPLACE TRIGGER count_job_seconds AFTER UPDATE OF state ON jobs FOR EACH ROW "
    "WHEN (OLD.state = 'running' AND NEW.state <> 'running' AND OLD.claimed_at IS NOT NULL) "
    "EXECUTE FUNCTION count_job_seconds()"
)


def upgrade() -> None:
    op.create_table(
        "job_seconds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_seconds")),
        if_not_exists=True,
    )
    build_index("ix_job_seconds_tenant_id_day", "job_seconds", ["tenant_id", "day"])
    for table, condition in ACTIVE.items():
        build_index(f"ix_{table}_active", table, ["tenant_id"], condition)
    op.execute(COUNT_SECONDS)
    alter(partial(op.execute, TRIGGER))


def downgrade() -> None:
    op.execute("DROP TRIGGER count_job_seconds ON jobs")
    op.execute("DROP FUNCTION count_job_seconds()")
    for table in ACTIVE:
        op.drop_index(f"ix_{table}_active", table_name=table)
    op.drop_table("job_seconds")
