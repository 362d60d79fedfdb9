"""Signatures by the specification's own example, pauses by their bounds, and the list of types of events."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import get_args
from uuid import uuid4

import pytest

from app.contracts.events import EVENT_TYPES, EventType
from app.contracts.results.gates import GATE_EVENTS
from app.store.jobs.owners import GATE, MODEL_VERSION, OWNERS, TEXT_SET
from app.store.operations import OperationStatus
from app.store.text_sets import TextSetStatus
from app.store.webhook_attempts import OPEN_AFTER, Claim
from app.webhooks.outbox import (
    LONGEST_SECONDS,
    LONGEST_WEBHOOK_SECONDS,
    pause_of_delivery,
    pause_of_webhook,
)
from app.webhooks.posting import Answer
from app.webhooks.signing import new_secret, signature_headers

REFUSED = Answer(500, "refused")


def test_a_signature_is_that_of_the_reference_libraries() -> None:
    """The oracle is the example that the reference libraries are tested with, in all their languages."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = '{"test": 2432232314}'
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signature_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", body, [key], at)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_each_secret_signs_id_time_and_body() -> None:
    keys, at = [b"a" * 32, b"b" * 32], datetime(2026, 5, 4, 3, 2, 1, 999_999, tzinfo=UTC)
    headers = signature_headers("dlv_1", "{}", keys, at)
    said = f"dlv_1.{int(at.timestamp())}.{{}}".encode()
    expected = [base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode() for key in keys]
    assert headers["webhook-signature"] == " ".join(f"v1,{each}" for each in expected)


def test_secrets_are_random_and_of_the_length_that_the_specification_asks_for() -> None:
    shown = {new_secret().shown for _ in range(100)}
    assert len(shown) == 100
    for each in shown:
        prefix, _, encoded = each.partition("_")
        assert prefix == "whsec"
        assert 24 <= len(base64.b64decode(encoded, validate=True)) <= 64


def claim(failures: int, webhook_failures: int = 0) -> Claim:
    return Claim(
        id=uuid4(), attempt=failures + 1, failures=failures, body="{}", webhook_id=uuid4(), tenant_id=uuid4(),
        url="https://example.com", webhook_failures=webhook_failures, sealed_secrets=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failures", "most"), [(0, 5), (1, 10), (4, 80), (9, LONGEST_SECONDS), (10**6, LONGEST_SECONDS)]
)
def test_pauses_double_up_to_half_an_hour_with_jitter_over_the_second_half(
    failures: int, most: float
) -> None:
    pauses = [pause_of_delivery(claim(failures), REFUSED, 5.0) for _ in range(2000)]
    assert most / 2 <= min(pauses) < 0.51 * most
    assert 0.99 * most < max(pauses) <= most


def test_a_receiver_rests_from_the_third_failure_on_for_a_minute_at_most() -> None:
    assert pause_of_webhook(claim(0, OPEN_AFTER - 2), REFUSED, 5.0) == 0
    assert 2.5 <= pause_of_webhook(claim(0, OPEN_AFTER - 1), REFUSED, 5.0) <= 5
    assert pause_of_webhook(claim(0, 10**6), REFUSED, 5.0) <= LONGEST_WEBHOOK_SECONDS


@pytest.mark.parametrize(("asked", "given"), [(100.0, 100.0), (10.0**9, LONGEST_SECONDS)])
def test_what_a_receiver_asks_for_is_given_within_bounds(asked: float, given: float) -> None:
    busy = Answer(429, "refused", asked)
    assert pause_of_delivery(claim(0), busy, 5.0) == given
    assert pause_of_webhook(claim(0), busy, 5.0) == given


def test_all_ends_have_a_type_that_can_be_asked_for() -> None:
    ends = {
        f"{owner.kind}.{status}"
        for owner in OWNERS.values()
        if owner not in (GATE, MODEL_VERSION)
        for status in owner.ended_at
        if (owner, status) != (TEXT_SET, TextSetStatus.CANCELLED)
    }
    ends |= {f"version.{status}" for status in MODEL_VERSION.ended_at} | {"version.registered"}
    ends |= {*GATE_EVENTS.values(), "gate.undecided", f"gate.{OperationStatus.CANCELLED}"}
    removals = {"language_model.deleted", "text_set.erased"}
    assert set(EVENT_TYPES) == set(get_args(EventType)) == ends | removals
