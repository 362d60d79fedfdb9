"""What a language model's tokenizer puts before a text, and what stood before the texts of an audit."""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.ops import alter

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = {"language_models": "tokenizer", "audits": "prefix_token"}
    alter(
        *(
            partial(
                op.add_column,
                table,
                sa.Column(name, JSONB(none_as_null=True), nullable=True),
                if_not_exists=True,
            )
            for table, name in columns.items()
        )
    )


def downgrade() -> None:
    op.drop_column("audits", "prefix_token")
    op.drop_column("language_models", "tokenizer")
