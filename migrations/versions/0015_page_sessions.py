"""What the pages need: sessions of people who sign in, and lists of texts by q-value and of those recited.

A session is a row that ends with its API key.
"""

import sqlalchemy as sa
from alembic import op

from migrations.ops import build_index

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

RECITED = "(metrics -> 'extraction' ->> 'strict') = 'true'"


def upgrade() -> None:
    op.create_table(
        "page_sessions",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["api_key_id"],
            ["api_keys.id"],
            name=op.f("fk_page_sessions_api_key_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_page_sessions")),
        if_not_exists=True,
    )
    op.create_index("ix_page_sessions_api_key_id", "page_sessions", ["api_key_id"], if_not_exists=True)
    op.create_index("ix_page_sessions_expires_at", "page_sessions", ["expires_at"], if_not_exists=True)
    build_index("ix_scores_recited", "scores", ["audit_id", "nl", "ordinal"], RECITED)
    build_index(
        "ix_score_findings_q_value",
        "score_findings",
        ["audit_id", "q_value", "ordinal"],
        "q_value IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_index("ix_score_findings_q_value", table_name="score_findings", if_exists=True)
    op.drop_index("ix_scores_recited", table_name="scores", if_exists=True)
    op.drop_table("page_sessions")
