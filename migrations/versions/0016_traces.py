"""A job says when it was claimed, and which trace it belongs to.

Processes of the previous release leave both null: nothing is measured or traced of what they claim and enqueue.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op

from migrations.ops import alter

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = (
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
    )
    alter(*(partial(op.add_column, "jobs", column, if_not_exists=True) for column in columns))


def downgrade() -> None:
    for name in ("traceparent", "claimed_at"):
        op.drop_column("jobs", name)
