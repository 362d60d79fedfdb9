"""Tenants with quotas, retention and an end; keys that expire; the trail of who did what.

A row of the trail is written once; later it is given its place and chained to the one before.
"""

from functools import partial

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.ops import alter, build_index

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
TENANT_COLUMNS = (
    "quotas JSONB NOT NULL DEFAULT '{}'",
    "retention JSONB NOT NULL DEFAULT '{}'",
    "disabled_at TIMESTAMPTZ",
)
KEY_COLUMNS = ("expires_at TIMESTAMPTZ", "last_used_at TIMESTAMPTZ")

# What is let through, beside new rows, is that one is chained.
KEEP_TRAIL = (
    "CREATE OR REPLACE FUNCTION keep_trail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF TG_OP = 'INSERT' AND NEW.place IS NULL AND NEW.previous_sha256 IS NULL AND NEW.sha256 IS NULL THEN "
    "RETURN NEW; END IF; "
    "IF TG_OP = 'UPDATE' AND OLD.place IS NULL AND NEW.place IS NOT NULL AND NEW.sha256 IS NOT NULL "
    "AND to_jsonb(OLD) - '{place,previous_sha256,sha256}'::text[] "
    "= to_jsonb(NEW) - '{place,previous_sha256,sha256}'::text[] THEN RETURN NEW; END IF; "
    "RAISE EXCEPTION 'the trail is append-only' USING ERRCODE = 'insufficient_privilege'; END $$"
)


def upgrade() -> None:
    for table, columns in (("tenants", TENANT_COLUMNS), ("api_keys", KEY_COLUMNS)):
        alter(
            *(
                partial(op.execute, f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}")
                for column in columns
            )
        )
    op.create_table(
        "trail",
        sa.Column("id", sa.Uuid(), nullable=False),
        # No foreign key: what a tenant did outlives it, and a request waits for no lock on it.
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=True),
        sa.Column("previous_sha256", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trail")),
        sa.UniqueConstraint("place", name=op.f("uq_trail_place")),
        if_not_exists=True,
    )
    build_index("ix_trail_tenant_id_place", "trail", ["tenant_id", "place"])
    build_index("ix_trail_unchained", "trail", ["id"], "place IS NULL")
    op.execute(KEEP_TRAIL)
    op.execute(
        "CREATE OR REPLACE TRIGGER keep_trail BEFORE INSERT OR UPDATE OR DELETE ON trail "
        "FOR EACH ROW EXECUTE FUNCTION keep_trail()"
    )
    op.execute(
        "CREATE OR REPLACE TRIGGER keep_whole_trail BEFORE TRUNCATE ON trail "
        "FOR EACH STATEMENT EXECUTE FUNCTION keep_trail()"
    )


def downgrade() -> None:
    op.drop_table("trail")
    op.execute("DROP FUNCTION keep_trail()")
    for table, columns in (("tenants", TENANT_COLUMNS), ("api_keys", KEY_COLUMNS)):
        for column in columns:
            op.drop_column(table, column.split()[0])
