"""SVD's rank ratio is one for each role: in the specifications of stored edits too."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE edits SET spec = jsonb_set(spec, '{rank_ratio}', jsonb_build_object("
        "'gate', spec -> 'rank_ratio', 'up', spec -> 'rank_ratio', 'down', spec -> 'rank_ratio')) "
        "WHERE jsonb_typeof(spec -> 'rank_ratio') = 'number'"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE edits SET spec = jsonb_set(spec, '{rank_ratio}', spec -> 'rank_ratio' -> 'gate') "
        "WHERE jsonb_typeof(spec -> 'rank_ratio') = 'object'"
    )
