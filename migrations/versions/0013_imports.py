"""A text set may be imported by a worker: where that stands, of which preset, at which commit.

Processes of the previous release write text sets without these columns: theirs are ready at once.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.ops import alter, build_index

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

STATUSES = "status IN ('importing', 'ready', 'failed', 'cancelled')"


def upgrade() -> None:
    columns = (
        sa.Column("status", sa.Text(), server_default="ready", nullable=False),
        sa.Column("preset", sa.Text(), nullable=True),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("error", JSONB(none_as_null=True), nullable=True),
    )
    alter(
        *(partial(op.add_column, "text_sets", column, if_not_exists=True) for column in columns),
        partial(op.execute, "ALTER TABLE text_sets DROP CONSTRAINT IF EXISTS ck_text_sets_status"),
        partial(op.execute, f"ALTER TABLE text_sets ADD CONSTRAINT ck_text_sets_status CHECK ({STATUSES})"),
        partial(
            op.execute,
            "CREATE OR REPLACE TRIGGER notify_change AFTER UPDATE ON text_sets "
            "FOR EACH ROW EXECUTE FUNCTION notify_change()",
        ),
    )
    build_index(
        "ix_text_sets_tenant_id_preset_id", "text_sets", ["tenant_id", "preset", "id"], "preset IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER notify_change ON text_sets")
    # What the previous release cannot run or read.
    op.execute("DELETE FROM jobs WHERE owner_kind = 'text_set'")
    op.execute(
        "UPDATE audits SET status = 'cancelled', finished_at = clock_timestamp() WHERE status = 'queued' "
        "AND text_set_id IN (SELECT id FROM text_sets WHERE status <> 'ready')"
    )
    op.execute(
        "UPDATE text_sets SET deleted_at = clock_timestamp() WHERE status <> 'ready' AND deleted_at IS NULL"
    )
    op.drop_index("ix_text_sets_tenant_id_preset_id", table_name="text_sets", if_exists=True)
    for column in ("error", "revision", "preset", "status"):
        op.drop_column("text_sets", column)
