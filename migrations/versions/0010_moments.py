"""Evidence keeps the moments of the vocabulary's log-probabilities and what sampling needs.

An audit says which tokens end a generation, so that its evidence tells recitation without the model, and from
which other audit it was derived.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.ops import alter, build_index

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

EVIDENCE = ("means", "deviations", "sampling_log_likelihoods")


def upgrade() -> None:
    columns = [("token_evidence", sa.Column(name, sa.LargeBinary(), nullable=True)) for name in EVIDENCE]
    columns.append(("audits", sa.Column("end_tokens", JSONB(), nullable=True)))
    columns.append(("audits", sa.Column("derived_from", sa.Uuid(), nullable=True)))
    alter(*(partial(op.add_column, table, column, if_not_exists=True) for table, column in columns))
    build_index("ix_audits_text_set_sha256", "audits", ["text_set_sha256"])


def downgrade() -> None:
    op.drop_index("ix_audits_text_set_sha256", table_name="audits", if_exists=True)
    for name in ("derived_from", "end_tokens"):
        op.drop_column("audits", name)
    for name in EVIDENCE:
        op.drop_column("token_evidence", name)
