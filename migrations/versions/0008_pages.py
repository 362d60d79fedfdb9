"""Indexes that begin a page of a group's scores at its cursor; built while scores are read and written."""

from alembic import op

from migrations.ops import build_index

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_scores_audit_id_group": ["audit_id", "group", "ordinal"],
    "ix_scores_audit_id_group_nl": ["audit_id", "group", "nl", "ordinal"],
}


def upgrade() -> None:
    for name, columns in INDEXES.items():
        build_index(name, "scores", columns, '"group" IS NOT NULL')


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.drop_index(name, table_name="scores", if_exists=True, postgresql_concurrently=True)
