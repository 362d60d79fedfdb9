"""Cutting shards and summarising scores. Oracles: the definition of a cut; numpy on the same numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audits.schemas import AuditSummary
from app.store.audits import ScoreFacts
from workers.audit_job import cut_shards
from workers.summary_job import summarize


@given(st.lists(st.integers(min_value=0, max_value=50), min_size=1), st.integers(min_value=1, max_value=100))
def test_shards_cover_all_texts_in_order_and_keep_the_limit(lengths: list[int], limit: int) -> None:
    bounds = cut_shards(lengths, limit)
    assert [place for start, stop in bounds for place in range(start, stop)] == list(range(len(lengths)))
    for start, stop in bounds:
        assert sum(lengths[start:stop]) <= limit or sum(map(bool, lengths[start:stop])) == 1
    for start, stop in bounds[:-1]:
        assert sum(lengths[start : stop + 1]) > limit, "this cut could have been left out"


def facts(nl: float | None, *, duplicates: int | None = None, strict: bool | None = None) -> ScoreFacts:
    tokens = 10
    return ScoreFacts(
        group="copyright/passages",
        duplicates=duplicates,
        n_tokens=tokens,
        log_likelihood=None if nl is None else nl * tokens,
        nl=nl,
        nl_byte=None if nl is None else nl / 4,
        strict=strict,
        loose=strict,
        similarity=None if strict is None else float(strict),
    )


def test_a_summary_is_what_numpy_says() -> None:
    low, high = [-3.0, -3.5, -4.0], [-0.5, -1.5]
    rows = [facts(nl, duplicates=0, strict=False) for nl in low]
    rows += [facts(nl, duplicates=256, strict=nl > -1) for nl in high]
    rows.append(facts(None, duplicates=256))
    summary = AuditSummary.model_validate(summarize(rows))
    assert (summary.texts, summary.errors, summary.tokens) == (6, 1, 50)
    assert summary.log_likelihood == pytest.approx(10 * sum(low + high))
    assert summary.perplexity == pytest.approx(math.exp(-np.mean(low + high)))
    assert summary.nl is not None
    assert summary.nl.mean == pytest.approx(np.mean(low + high))
    assert [(level.duplicates, level.nl.n, level.nl.mean) for level in summary.dose_response] == [
        (0, 3, pytest.approx(np.mean(low))),
        (256, 2, pytest.approx(np.mean(high))),
    ]
    strict = [level.strict.mean for level in summary.dose_response if level.strict]
    assert strict == [0.0, 0.5]
    assert [level.group for level in summary.levels] == ["copyright/passages"] * 2
    assert summary.gain is not None
    assert summary.gain.mean == pytest.approx(np.mean(high) - np.mean(low))
    assert summary.gain.low is not None
    assert summary.gain.high is not None
    assert summary.gain.low <= summary.gain.mean <= summary.gain.high


def test_nothing_scored_is_said_plainly() -> None:
    summary = AuditSummary.model_validate(summarize([facts(None)]))
    assert (summary.texts, summary.errors, summary.tokens) == (1, 1, 0)
    assert summary.perplexity is None
    assert summary.nl is None
    assert summary.gain is None
    assert summary.dose_response == []
