"""Times in requests: RFC 3339 and nothing else, in whichever contract they stand."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from app.tenants.schemas import APIKeyCreate
from app.webhooks.schemas import WebhookReplayRequest


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2099-01-01T00:00:00Z", datetime(2099, 1, 1, tzinfo=UTC)),
        ("2099-01-01t02:00:00.25+02:00", datetime(2099, 1, 1, microsecond=250_000, tzinfo=UTC)),
        ("2099-01-01T00:00:00", None),
        ("2099-01-01 00:00:00Z", None),
        ("2099-01-01T00:00Z", None),
        ("2099-01-01", None),
        ("4070908800", None),
        (4_070_908_800, None),
        ("9999-12-31T23:59:59-01:00", None),
    ],
)
def test_a_time_is_read_as_rfc_3339_has_it(given: object, read: datetime | None) -> None:
    key = {"name": "ci", "scopes": ["audit:read"], "expires_at": given}
    if read is None:
        with pytest.raises(ValidationError, match="expires_at"):
            APIKeyCreate.model_validate(key)
        with pytest.raises(ValidationError, match="since"):
            WebhookReplayRequest.model_validate({"since": given})
        return
    since = WebhookReplayRequest.model_validate({"since": given}).since
    assert (since, since.utcoffset()) == (read, timedelta())
    assert APIKeyCreate.model_validate(key).expires_at == read
