"""Cutting shards and summarising scores. Oracles: the definition of a cut; numpy on the same numbers."""

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audits.schemas import AuditSummary
from app.store.audits import ScoreFacts
from app.store.text_sets import TextSet
from workers.audit_job import cut_shards, cut_text_set
from workers.runtime import Runtime
from workers.science.loading import LanguageModel
from workers.summary_job import summarize


@given(
    st.lists(st.integers(min_value=0, max_value=50), min_size=1),
    st.integers(min_value=1, max_value=100),
    st.integers(min_value=1, max_value=10),
)
def test_shards_cover_all_texts_in_order_and_keep_both_limits(
    lengths: list[int], most_tokens: int, most_texts: int
) -> None:
    bounds = list(cut_shards(lengths, most_tokens, most_texts))
    assert [place for start, stop in bounds for place in range(start, stop)] == list(range(len(lengths)))
    for start, stop in bounds:
        assert 1 <= stop - start <= most_texts
        assert sum(lengths[start:stop]) <= most_tokens or sum(map(bool, lengths[start:stop])) == 1
    for start, stop in bounds[:-1]:
        could_grow = sum(lengths[start : stop + 1]) <= most_tokens and stop - start < most_texts
        assert not could_grow, "this cut could have been left out"


@given(st.integers(min_value=1, max_value=40), st.integers(min_value=1, max_value=10))
def test_texts_of_few_bytes_are_cut_by_number_without_a_look_at_them(texts: int, most: int) -> None:
    settings = SimpleNamespace(shard_tokens=100, shard_texts=most)
    runtime = cast("Runtime", SimpleNamespace(settings=settings))
    text_set = TextSet(text_count=texts, byte_count=100)

    def refuse() -> LanguageModel:
        raise AssertionError("nothing needs to be counted")

    bounds = cut_text_set(runtime, text_set, refuse, refuse)
    assert bounds == list(cut_shards([0] * texts, 100, most))


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
