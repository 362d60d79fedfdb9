"""Indexes that begin a page of a group's scores at its cursor; built while scores are read and written."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

GROUPED = sa.text('"group" IS NOT NULL')
INDEXES = {
    "ix_scores_audit_id_group": ["audit_id", "group", "ordinal"],
    "ix_scores_audit_id_group_nl": ["audit_id", "group", "nl", "ordinal"],
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns in INDEXES.items():
            # What an earlier try may have left behind half built is not valid.
            op.drop_index(name, table_name="scores", if_exists=True, postgresql_concurrently=True)
            op.create_index(name, "scores", columns, postgresql_where=GROUPED, postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.drop_index(name, table_name="scores", if_exists=True, postgresql_concurrently=True)
