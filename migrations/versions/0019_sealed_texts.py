"""Texts and token evidence sealed with keys of their text sets, digests with a key, receipts of erasure.

What older releases wrote in clear is sealed after the migration, in batches (`app.store.conversion`); until
then, and while processes of an older release still write, both forms are read.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter, build_index

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)
SEALED = {
    "texts": ("sealed_text", "sealed_choices", "sealed_metadata"),
    "token_evidence": ("sealed",),
}
# What was never null is so in rows that are sealed.
CLEAR = {"texts": ("text",), "token_evidence": ("token_ids", "log_likelihoods", "ranks", "spans")}


def upgrade() -> None:
    alter(partial(_create_text_set_keys), partial(_create_instance_keys), partial(_create_receipts))
    build_index("ix_text_set_keys_master_key_id", "text_set_keys", ["master_key_id"])
    build_index("ix_erasure_receipts_tenant_id", "erasure_receipts", ["tenant_id"])
    alter(partial(op.execute, "ALTER TABLE text_sets ADD COLUMN IF NOT EXISTS digest_is_keyed BOOLEAN"))
    # Few rows, and none once all are converted.
    build_index("ix_text_sets_unkeyed", "text_sets", ["id"], "digest_is_keyed IS NULL")
    for table, columns in SEALED.items():
        # A box is random bytes: to compress them is lost time.
        alter(
            *(
                partial(op.execute, f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} BYTEA")
                for column in columns
            ),
            *(
                partial(op.execute, f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
                for column in columns
            ),
            *(
                partial(op.execute, f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
                for column in CLEAR[table]
            ),
        )
    # Of what is left to be sealed: nothing is in them once all of it is.
    build_index("ix_texts_unsealed", "texts", ["text_set_id", "ordinal"], "sealed_text IS NULL")
    build_index("ix_token_evidence_unsealed", "token_evidence", ["audit_id", "ordinal"], "sealed IS NULL")


def _create_text_set_keys() -> None:
    op.create_table(
        "text_set_keys",
        sa.Column("text_set_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("master_key_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["text_set_id"], ["text_sets.id"], name=op.f("fk_text_set_keys_text_set_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("text_set_id", name=op.f("pk_text_set_keys")),
        if_not_exists=True,
    )


def _create_instance_keys() -> None:
    op.create_table(
        "instance_keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("master_key_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instance_keys")),
        if_not_exists=True,
    )


def _create_receipts() -> None:
    op.create_table(
        "erasure_receipts",
        sa.Column("text_set_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("statement", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["text_set_id"],
            ["text_sets.id"],
            name=op.f("fk_erasure_receipts_text_set_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_erasure_receipts_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("text_set_id", name=op.f("pk_erasure_receipts")),
        if_not_exists=True,
    )


def downgrade() -> None:
    sealed = op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM text_set_keys)"))
    if sealed:
        raise RuntimeError("There are sealed texts, which an older release cannot read; restore a backup.")
    for table, columns in SEALED.items():
        op.drop_index(f"ix_{table}_unsealed", table)
        for column in columns:
            op.drop_column(table, column)
        for column in CLEAR[table]:
            op.alter_column(table, column, nullable=False)
    op.drop_index("ix_text_sets_unkeyed", "text_sets")
    op.drop_column("text_sets", "digest_is_keyed")
    op.drop_table("erasure_receipts")
    op.drop_table("instance_keys")
    op.drop_table("text_set_keys")
