"""A text set may be one whose curvature an edit retains."""

from functools import partial

from alembic import op

from migrations.ops import alter

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_BEFORE = "'calibration', 'forget', 'memorized', 'unseen', 'control', 'clean', 'items'"


def upgrade() -> None:
    _allow(f"{_BEFORE}, 'retain'")


def downgrade() -> None:
    op.execute("DELETE FROM edit_text_sets WHERE role = 'retain'")
    _allow(_BEFORE)


def _allow(roles: str) -> None:
    """Rows that are there are checked while the table is read and written."""
    replaced = (
        "ALTER TABLE edit_text_sets DROP CONSTRAINT IF EXISTS ck_edit_text_sets_role, "
        f"ADD CONSTRAINT ck_edit_text_sets_role CHECK (role IN ({roles})) NOT VALID"
    )
    checked = "ALTER TABLE edit_text_sets VALIDATE CONSTRAINT ck_edit_text_sets_role"
    alter(partial(op.execute, replaced), partial(op.execute, checked))
