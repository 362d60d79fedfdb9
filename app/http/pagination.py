"""Keyset pagination: opaque cursors that name the last row of a page."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel

from app.errors import FieldError, ValidationFailed
from app.store.api_keys import APIKey
from app.store.artifacts import Artifact
from app.store.audits import Audit
from app.store.edits import Edit
from app.store.gates import Gate
from app.store.language_models import LanguageModel
from app.store.model_lines import ModelLine, ModelVersion
from app.store.policies import Policy
from app.store.studies import Study
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.store.webhook_deliveries import WebhookDelivery
from app.store.webhooks import Webhook

Item = TypeVar("Item", bound=BaseModel)
Row = TypeVar(
    "Row",
    LanguageModel,
    TextSet,
    Audit,
    Study,
    Edit,
    Artifact,
    Policy,
    Gate,
    ModelLine,
    ModelVersion,
    Tenant,
    APIKey,
    Webhook,
    WebhookDelivery,
)


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next_cursor: str | None


def encode_cursor(*values: Any) -> str:
    """An opaque cursor for the sort values of a row."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type | tuple[type, ...]) -> list[Any]:
    """The sort values of a cursor, each of its kind.

    Raises:
        ValidationFailed: the cursor was not made by this list.
    """
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        raise invalid_cursor() from None
    if not isinstance(values, list) or len(values) != len(kinds):
        raise invalid_cursor()
    if any(
        isinstance(value, bool) or not isinstance(value, kind)
        for value, kind in zip(values, kinds, strict=True)
    ):
        raise invalid_cursor()
    return values


def id_cursor(cursor: str | None) -> UUID | None:
    """The id that a page of a list by id begins after; None for the first page.

    Raises:
        ValidationFailed: the cursor was not made by a list by id.
    """
    if cursor is None:
        return None
    try:
        return UUID(hex=str(decode_cursor(cursor, str)[0]))
    except ValueError:
        raise invalid_cursor() from None


def page_by_id(rows: Sequence[Row], limit: int, render: Callable[[Row], Item]) -> Page[Item]:
    """A page of a list by id, of up to `limit + 1` rows: the one too many tells that there are more."""
    shown = rows[:limit]
    has_more = len(rows) > limit
    next_cursor = encode_cursor(shown[-1].id.hex) if has_more else None
    return Page(data=[render(row) for row in shown], has_more=has_more, next_cursor=next_cursor)


def invalid_cursor() -> ValidationFailed:
    """The failure for a cursor that this list did not make."""
    return ValidationFailed(
        "The cursor was not made by this list; begin again without one.",
        [FieldError(pointer="/cursor", code="invalid_cursor")],
    )
