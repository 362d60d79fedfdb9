"""Evidence keeps the moments of the vocabulary's log-probabilities and what sampling needs.

An audit says which tokens end a generation, so that its evidence tells recitation without the model, from
which other audit it was derived, and how many control texts ReCaLL took.
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
    columns.append(("audits", sa.Column("recall_shots", sa.Integer(), nullable=True)))
    columns.append(("audits", sa.Column("derived_from", sa.Uuid(), nullable=True)))
    alter(*(partial(op.add_column, table, column, if_not_exists=True) for table, column in columns))
    build_index("ix_audits_text_set_sha256", "audits", ["text_set_sha256"])


def downgrade() -> None:
    # What the previous release cannot run; without its jobs the audit would never end.
    op.execute(
        "UPDATE audits SET status = 'cancelled', finished_at = clock_timestamp() "
        "WHERE status IN ('queued', 'running') AND id IN (SELECT owner_id FROM jobs "
        "WHERE kind = 'derive_shard' AND state IN ('queued', 'running'))"
    )
    op.execute("DELETE FROM jobs WHERE kind = 'derive_shard'")
    op.drop_index("ix_audits_text_set_sha256", table_name="audits", if_exists=True)
    for name in ("derived_from", "recall_shots", "end_tokens"):
        op.drop_column("audits", name)
    for name in EVIDENCE:
        op.drop_column("token_evidence", name)
