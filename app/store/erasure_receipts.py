"""Receipts of erasure: what was erased, when and why, signed with the key of the instance."""

from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.store.core.base import Base, CreatedAt, JSONObject


class ErasureReceipt(Base):
    """The receipt of one text set. Without a key that signs there is no envelope yet."""

    __tablename__ = "erasure_receipts"

    text_set_id: Mapped[UUID] = mapped_column(
        ForeignKey("text_sets.id", ondelete="CASCADE"), primary_key=True
    )
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    statement: Mapped[JSONObject]
    envelope: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
