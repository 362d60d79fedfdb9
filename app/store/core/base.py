"""What every table shares: metadata with named constraints, and column types."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from sqlalchemy import CheckConstraint, ColumnElement, DateTime, MetaData, Select, Uuid, and_, func, or_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session, mapped_column

from app.store.core.identifiers import new_id

Entity = TypeVar("Entity")
JSONObject = dict[str, Any]

PrimaryKey = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.clock_timestamp())]


class Base(DeclarativeBase):
    """Declarative base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {
        UUID: Uuid(),
        datetime: DateTime(timezone=True),
        JSONObject: JSONB(none_as_null=True),
    }


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """A check that a text column holds one of an enum's values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def has_metadata(column: InstrumentedAttribute[JSONObject], wanted: Mapping[str, str]) -> ColumnElement[bool]:
    """The condition that metadata has, under each key, a value that is written so: `7` is 7 and "7"."""
    return and_(
        True,  # noqa: FBT003 - what nothing is asked of holds
        *(
            or_(*(column.contains({key: value}) for value in _values_written(text)))
            for key, text in wanted.items()
        ),
    )


def _values_written(text: str) -> list[str | float | bool]:
    """The string itself, and the JSON number or boolean that is written so."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [text]
    return [text, value] if isinstance(value, bool | int | float) else [text]


def newest_first(
    session: Session,
    statement: Select[Entity],
    key: InstrumentedAttribute[UUID],
    before: UUID | None,
    limit: int,
) -> list[Entity]:
    """The newest rows of a selection by id, those older than `before`: ids sort by time."""
    if before is not None:
        statement = statement.where(key < before)
    return list(session.scalars(statement.order_by(key.desc()).limit(limit)))
