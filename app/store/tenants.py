"""Tenants, and who asks in the name of one."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.contracts.tenants import Quotas, Retention
from app.errors import NotFound, TenantNameTaken
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, newest_first
from app.store.core.identifiers import Prefix, format_id, parse_id


class Tenant(Base):
    """Whoever owns resources; nobody else can see them. While it is disabled, nobody can ask in its name."""

    __tablename__ = "tenants"

    id: Mapped[PrimaryKey]
    name: Mapped[str] = mapped_column(Text, unique=True)
    quotas: Mapped[JSONObject] = mapped_column(default=dict, server_default="{}")
    retention: Mapped[JSONObject] = mapped_column(default=dict, server_default="{}")
    created_at: Mapped[CreatedAt]
    disabled_at: Mapped[datetime | None]


@dataclass(frozen=True)
class Principal:
    """Who is asking: the tenant, what may be done, and by what that was shown: a key or a signed token.

    `quotas` are the tenant's own; those of a request have the instance's defaults in place of what is null.
    """

    tenant_id: UUID
    tenant_name: str
    key_id: UUID | None
    scopes: frozenset[str]
    quotas: Quotas
    token_subject: str | None = None

    @property
    def actor(self) -> str:
        """Who it is in the trail: the id of the key, or the subject of the token."""
        if self.key_id is None:
            return f"oidc:{self.token_subject}"
        return format_id(Prefix.API_KEY, self.key_id)


def ensure_tenant(session: Session, name: str) -> UUID:
    """The id of the tenant of a name, which is made when there is none."""
    return make_tenant(session, name) or session.scalars(select(Tenant.id).where(Tenant.name == name)).one()


def make_tenant(session: Session, name: str) -> UUID | None:
    """Make a tenant of a name; None when there is one."""
    made = insert(Tenant).values(name=name).on_conflict_do_nothing(index_elements=["name"])
    return session.scalar(made.returning(Tenant.id))


def add_tenant(session: Session, name: str, quotas: Quotas, retention: Retention) -> Tenant:
    """Make a tenant.

    Raises:
        TenantNameTaken: there is one of this name.
    """
    made: Tenant | None = session.scalar(
        insert(Tenant)
        .values(name=name, quotas=quotas.model_dump(), retention=retention.model_dump())
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(Tenant)
    )
    if made is None:
        raise TenantNameTaken
    return made


def rename_tenant(session: Session, tenant: Tenant, name: str) -> None:
    """Give a tenant another name, unless another tenant has it.

    Raises:
        TenantNameTaken: another one has it.
    """
    try:
        with session.begin_nested():
            tenant.name = name
    except IntegrityError:
        raise TenantNameTaken from None


def get_tenant(session: Session, tenant_id: UUID | None, *, lock: bool = False) -> Tenant:
    """A tenant; locked against changes of it and of its keys, if asked.

    Raises:
        NotFound: there is none of this id.
    """
    statement = select(Tenant).where(Tenant.id == tenant_id)
    if lock:
        # Rows of the tenant that others write meanwhile do not wait.
        statement = statement.with_for_update(key_share=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such tenant.")
    return row


def find_tenant(session: Session, id_or_name: str) -> Tenant | None:
    """The tenant of an id, or of a name, that is not disabled, if there is one."""
    tenant_id = parse_id(Prefix.TENANT, id_or_name)
    named = Tenant.name == id_or_name if tenant_id is None else Tenant.id == tenant_id
    return session.scalars(select(Tenant).where(named, Tenant.disabled_at.is_(None))).one_or_none()


def list_tenants(
    session: Session, before: UUID | None, limit: int, *, name: str | None, only: UUID | None
) -> list[Tenant]:
    """Tenants, newest first: all, that of a name, or `only` one."""
    statement = select(Tenant)
    if name is not None:
        statement = statement.where(Tenant.name == name)
    if only is not None:
        statement = statement.where(Tenant.id == only)
    return newest_first(session, statement, Tenant.id, before, limit)
