"""Tables of edits: the edits, their text sets, stored factors; jobs and language models know of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
NOW = sa.text("clock_timestamp()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("language_models", sa.Column("base_model_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_language_models_base_model_id"),
        "language_models",
        "language_models",
        ["base_model_id"],
        ["id"],
    )
    op.create_index(op.f("ix_language_models_base_model_id"), "language_models", ["base_model_id"])
    op.create_table(
        "edits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("language_model_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("language_model_digest", sa.Text(), nullable=True),
        sa.Column("receipt", JSON, nullable=True),
        sa.Column("evaluation", JSON, nullable=True),
        sa.Column("frontier", JSON, nullable=True),
        sa.Column("artifact_id", sa.Uuid(), nullable=True),
        sa.Column("edited_model_id", sa.Uuid(), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_edits_status"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_edits_tenant_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["language_model_id"], ["language_models.id"], name=op.f("fk_edits_language_model_id")
        ),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_edits_artifact_id")),
        sa.ForeignKeyConstraint(
            ["edited_model_id"], ["language_models.id"], name=op.f("fk_edits_edited_model_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edits")),
    )
    op.create_index("ix_edits_tenant_id_id", "edits", ["tenant_id", "id"])
    for column in ("language_model_id", "artifact_id", "edited_model_id"):
        op.create_index(op.f(f"ix_edits_{column}"), "edits", [column])
    op.create_table(
        "edit_text_sets",
        sa.Column("edit_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("text_set_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "role IN ('calibration', 'forget', 'memorized', 'unseen', 'control', 'clean', 'items')",
            name=op.f("ck_edit_text_sets_role"),
        ),
        sa.ForeignKeyConstraint(
            ["edit_id"], ["edits.id"], name=op.f("fk_edit_text_sets_edit_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["text_set_id"], ["text_sets.id"], name=op.f("fk_edit_text_sets_text_set_id")
        ),
        sa.PrimaryKeyConstraint("edit_id", "role", name=op.f("pk_edit_text_sets")),
    )
    op.create_index(op.f("ix_edit_text_sets_text_set_id"), "edit_text_sets", ["text_set_id"])
    op.create_table(
        "factors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("projection", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_factors_tenant_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_factors_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_factors")),
        sa.UniqueConstraint(
            "tenant_id", "key", "projection", "side", name=op.f("uq_factors_tenant_id_key_projection_side")
        ),
    )
    op.create_index(op.f("ix_factors_sha256"), "factors", ["sha256"])
    op.add_column("jobs", sa.Column("edit_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("stage", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_edit_id"), "jobs", "edits", ["edit_id"], ["id"], ondelete="CASCADE")
    op.create_index("ix_jobs_edit_id", "jobs", ["edit_id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_edit_id", table_name="jobs")
    op.drop_constraint(op.f("fk_jobs_edit_id"), "jobs", type_="foreignkey")
    op.drop_column("jobs", "stage")
    op.drop_column("jobs", "edit_id")
    op.drop_table("factors")
    op.drop_table("edit_text_sets")
    op.drop_table("edits")
    op.drop_index(op.f("ix_language_models_base_model_id"), table_name="language_models")
    op.drop_constraint(op.f("fk_language_models_base_model_id"), "language_models", type_="foreignkey")
    op.drop_column("language_models", "base_model_id")
