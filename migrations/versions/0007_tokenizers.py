"""What a language model's tokenizer puts before a text, and what stood before the texts of an audit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("language_models", sa.Column("tokenizer", JSONB(none_as_null=True), nullable=True))
    op.add_column("audits", sa.Column("prefix_token", JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("audits", "prefix_token")
    op.drop_column("language_models", "tokenizer")
