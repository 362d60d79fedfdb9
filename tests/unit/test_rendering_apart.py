"""Calls in one child that are run without an event loop: what fails leaves the others whole."""

import os
import time

import orjson
import pytest

from app.rendering.apart import run_apart
from tests.drawing_child import environment, fail, hang, times


def test_calls_are_answered_in_order_by_one_child_that_is_not_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAUDIT_SECRET", "sesame")
    first, failed, second, names = run_apart(
        [(times, (0.0,)), (fail, ("sesame",)), (times, (0.0,)), (environment, ())], 60
    )
    assert failed is None
    assert first is not None
    assert second is not None
    assert names is not None
    (_, _, one), (_, _, other) = orjson.loads(first), orjson.loads(second)
    assert one == other != os.getpid()
    assert "MEMAUDIT_SECRET" not in orjson.loads(names)


def test_what_was_answered_in_time_is_kept() -> None:
    began = time.monotonic()
    first, never, behind = run_apart([(times, (0.0,)), (hang, ()), (times, (0.0,))], 10)
    assert first is not None
    assert (never, behind) == (None, None)
    assert time.monotonic() - began < 30


def test_a_child_that_ends_has_answered_no_more() -> None:
    first, *others = run_apart([(times, (0.0,)), (os._exit, (1,)), (times, (0.0,))], 60)
    assert first is not None
    assert others == [None, None]


def test_where_no_child_can_be_started_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.rendering.child.command", lambda: ["/nowhere/python"])
    assert run_apart([(times, (0.0,))], 60) == [None]
