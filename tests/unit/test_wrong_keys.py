"""Counting wrong keys: by networks, in time, in bounded memory."""

import pytest

from app.http import buckets, wrong_keys
from app.http.wrong_keys import WrongKeys


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(buckets.time, "monotonic", lambda: clock[0])
    return clock


def test_so_many_at_once_and_as_many_a_minute(now: list[float]) -> None:
    keys = WrongKeys(a_minute=30)
    for _ in range(30):
        assert keys.seconds_to_wait("10.0.0.1") == 0
        keys.count("10.0.0.1")
    assert keys.seconds_to_wait("10.0.0.1") == 2
    assert keys.seconds_to_wait("10.0.0.2") == 0
    now[0] += 2
    assert keys.seconds_to_wait("10.0.0.1") == 0
    keys.count("10.0.0.1")
    assert keys.seconds_to_wait("10.0.0.1") == 2
    now[0] += 60
    for _ in range(30):
        assert keys.seconds_to_wait("10.0.0.1") == 0
        keys.count("10.0.0.1")


def test_one_customers_addresses_are_one(now: list[float]) -> None:
    keys = WrongKeys(a_minute=1)
    keys.count("2001:db8:1:2::1")
    assert keys.seconds_to_wait("2001:db8:1:2:ffff::9") > 0
    assert keys.seconds_to_wait("2001:db8:1:3::1") == 0
    # On a socket for both, those of IPv4 are as many networks.
    keys.count("::ffff:192.0.2.1")
    assert keys.seconds_to_wait("192.0.2.1") > 0
    assert keys.seconds_to_wait("::ffff:192.0.2.2") == 0


def test_whose_rate_is_lowered_does_not_wait_for_what_was_allowed_before(now: list[float]) -> None:
    rates = buckets.Buckets(1)
    for _ in range(1000):
        rates.add("a tenant", 60_000)
    assert rates.seconds_to_wait("a tenant", 60) == 1
    now[0] += 1
    assert rates.seconds_to_wait("a tenant", 60) == 0


def test_memory_is_bounded(now: list[float]) -> None:
    keys = WrongKeys(a_minute=1)
    for number in range(wrong_keys._MOST_ADDRESSES + 5):
        keys.count(f"{number}")
    assert len(keys._buckets) == wrong_keys._MOST_ADDRESSES
    assert keys.seconds_to_wait("0") == 0
