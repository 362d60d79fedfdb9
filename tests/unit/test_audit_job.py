"""Cutting shards and summarising scores. Oracles: the definition of a cut; numpy on the same numbers."""

import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.contracts.metrics.splits import SplitCounts
from app.contracts.results.intervals import MeanInterval, ShareInterval
from app.contracts.results.summary import AuditSummary
from app.contracts.workload import most_tokens_of_shard
from app.store.scores import ScoreFacts
from app.store.text_sets import TextSet
from workers.audits.dose_response import DoseResponses, equivalents_of
from workers.audits.plan import cut_shards, cut_text_set
from workers.audits.summarize import summarize
from workers.running.runtime import Runtime
from workers.science.metrics.sampling import sampling_metric
from workers.science.metrics.splits import Split
from workers.science.metrics.verbatim import verbatim_metric
from workers.science.models.loading import LanguageModel
from workers.science.statistics.shares import share_with_interval


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
    runtime = cast("Runtime", SimpleNamespace(settings=settings, machine=SimpleNamespace(threads=2)))
    text_set = TextSet(text_count=texts, byte_count=100)

    def refuse() -> LanguageModel:
        raise AssertionError("nothing needs to be counted")

    bounds = cut_text_set(runtime, text_set, None, "control", refuse, refuse)
    assert bounds == list(cut_shards([0] * texts, 100, most))


@pytest.mark.parametrize(
    ("parameters", "on_processor", "expected"),
    [
        (None, True, 65_536),
        (16_000_000, True, 65_536),
        (160_000_000, True, 6_553),
        (7_000_000_000, True, 1_024),
        (7_000_000_000, False, 65_536),
    ],
)
def test_a_shard_of_a_large_model_on_a_processor_is_smaller(
    parameters: int | None,
    on_processor: bool,
    expected: int,
) -> None:
    assert most_tokens_of_shard(65_536, parameters, on_processor=on_processor) == expected
    assert most_tokens_of_shard(100, parameters, on_processor=on_processor) <= 100


def test_texts_are_cut_by_what_a_shard_of_their_model_may_have() -> None:
    settings = SimpleNamespace(shard_tokens=65_536, shard_texts=4096)
    runtime = cast("Runtime", SimpleNamespace(settings=settings, machine=SimpleNamespace(threads=2)))
    text_set = TextSet(text_count=1, byte_count=10_000)

    def loaded() -> LanguageModel:
        raise LookupError("asked to count")

    assert cut_text_set(runtime, text_set, 16_000_000, "control", loaded, loaded) == [(0, 1)]
    with pytest.raises(LookupError, match="asked to count"):
        cut_text_set(runtime, text_set, 160_000_000, "control", loaded, loaded)


def facts(
    nl: float | None,
    *,
    duplicates: int | None = None,
    strict: bool | None = None,
    group: str | None = "copyright/passages",
    **metrics: Any,
) -> ScoreFacts:
    tokens = 10
    extraction = {
        "status": "not_applicable" if strict is None else "ok",
        "strict": strict,
        "loose": strict,
        "similarity": None if strict is None else float(strict),
    }
    return ScoreFacts(
        group=group,
        duplicates=duplicates,
        n_tokens=tokens,
        log_likelihood=None if nl is None else nl * tokens,
        nl=nl,
        nl_byte=None if nl is None else nl / 4,
        metrics={"extraction": extraction} | metrics,
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
    strict = [level.strict.share for level in summary.dose_response if level.strict]
    assert strict == [0.0, 0.5]
    assert summary.strict == ShareInterval(**asdict(share_with_interval(1, 5)))
    assert summary.extraction_splits == SplitCounts(ok=5, scaled=0, not_applicable=0)
    assert [level.group for level in summary.levels] == ["copyright/passages"] * 2
    assert summary.gain is not None
    assert summary.gain.mean == pytest.approx(np.mean(high) - np.mean(low))
    assert summary.gain.low is not None
    assert summary.gain.high is not None
    assert summary.gain.low <= summary.gain.mean <= summary.gain.high


def test_a_share_of_all_or_none_has_an_interval_with_a_width() -> None:
    summary = AuditSummary.model_validate(summarize([facts(-1.0, strict=True)] * 6))
    assert summary.strict is not None
    assert summary.strict.low is not None
    assert (summary.strict.count, summary.strict.share, summary.strict.high) == (6, 1.0, 1.0)
    assert summary.strict.low < 0.7


def test_a_mean_of_equal_numbers_has_no_interval_and_that_of_similarity_keeps_to_its_range() -> None:
    summary = AuditSummary.model_validate(summarize([facts(-1.0, strict=True)] * 6))
    assert summary.similarity == MeanInterval(n=6, mean=1.0, low=None, high=None)
    assert summary.nl == MeanInterval(n=6, mean=-1.0, low=None, high=None)
    for recited in (1, 5):
        rows = [facts(-1.0, strict=place < recited) for place in range(6)]
        similarity = AuditSummary.model_validate(summarize(rows)).similarity
        assert similarity is not None
        assert similarity.low is not None
        assert similarity.high is not None
        assert 0 <= similarity.low < similarity.mean < similarity.high <= 1
        assert 0.0 in {similarity.low, 1 - similarity.high}


def test_nothing_scored_is_said_plainly() -> None:
    summary = AuditSummary.model_validate(summarize([facts(None)]))
    assert (summary.texts, summary.errors, summary.tokens) == (1, 1, 0)
    assert summary.perplexity is None
    assert summary.nl is None
    assert summary.gain is None
    assert summary.dose_response == []
    assert (summary.extraction_splits, summary.verbatim, summary.p_z) == (None, None, None)


def sampling(log_p_z: float) -> dict[str, Any]:
    return sampling_metric(Split("ok", 64, 48), log_p_z)


def test_a_summary_tells_verbatim_and_sampling_with_how_texts_were_split() -> None:
    short, whole = Split("scaled", 25, 30), Split("ok", 25, 50)
    rows = [
        facts(
            -1.0,
            strict=True,
            verbatim={
                "25": verbatim_metric(split, matched),
                "100": verbatim_metric(Split("not_applicable"), 0),
            },
            p_z=odds,
        )
        for split, matched, odds in (
            (short, 30, sampling(math.log(0.5))),
            (whole, 50, sampling(math.log(0.01))),
            (whole, 49, sampling(-200.0)),
            (whole, 0, sampling(-math.inf)),
            (Split("not_applicable"), 0, sampling_metric(Split("not_applicable"), 0.0)),
        )
    ]
    summary = AuditSummary.model_validate(summarize(rows))
    assert summary.verbatim is not None
    after_25, after_100 = summary.verbatim
    assert (after_25.prefix_tokens, after_100.prefix_tokens) == (25, 100)
    assert after_25.splits == SplitCounts(ok=3, scaled=1, not_applicable=1)
    assert after_25.strict is not None
    assert (after_25.strict.count, after_25.strict.n) == (2, 4)
    assert after_100.strict is None
    odds = summary.p_z
    assert odds is not None
    assert odds.splits == SplitCounts(ok=4, scaled=0, not_applicable=1)
    assert (odds.impossible, odds.largest_p_z) == (1, pytest.approx(0.5))
    assert odds.log_p_z is not None
    assert (odds.log_p_z.n, odds.log_p_z.mean) == (3, pytest.approx((math.log(0.005) - 200) / 3))
    # One sample for even odds at p = 0.5, 69 at p = 0.01.
    assert [(each.samples, each.texts.count, each.texts.n) for each in odds.extractable] == [
        (1, 1, 4),
        (10, 1, 4),
        (100, 2, 4),
        (1000, 2, 4),
    ]


def membership(score: float, recall: float | None = None) -> dict[str, Any]:
    return dict.fromkeys(("loss", "zlib", "min_k", "min_k_pp"), score) | {"reference": None, "recall": recall}


def test_a_summary_tells_how_well_labelled_texts_are_told_apart() -> None:
    """Oracle: the pairs of a member and another text, counted."""
    members, others = [-1.0, -2.0, -3.0, -3.5], [-3.0, -4.0, -5.0]
    rows = [replace(facts(x, membership=membership(x, -x)), member=True) for x in members]
    rows += [replace(facts(x, membership=membership(x)), member=False) for x in others]
    rows.append(facts(-9.0, membership=membership(-9.0)))
    summary = AuditSummary.model_validate(summarize(rows))
    found = summary.membership
    assert found is not None
    assert (found.n_members, found.n_others) == (4, 3)
    pairs = [(a > b) + (a == b) / 2 for a in members for b in others]
    for separation in (found.loss, found.zlib, found.min_k, found.min_k_pp):
        assert separation is not None
        assert separation.auc.auc == pytest.approx(np.mean(pairs))
        assert separation.auc.low is not None
        assert separation.auc.high is not None
        assert separation.auc.low <= separation.auc.auc <= separation.auc.high
        assert [(each.fpr, each.tpr) for each in separation.at_fpr] == [(0.01, None), (0.001, None)]
    # A score that only members have tells nothing.
    assert (found.reference, found.recall) == (None, None)
    assert summary.min_k is not None
    assert summary.min_k.mean == pytest.approx(np.mean([*members, *others, -9.0]))


def test_equal_scores_of_all_texts_have_an_area_of_a_half_without_an_interval() -> None:
    """As of a reference model with the same weights."""
    rows = [replace(facts(-1.0, membership=membership(-1.0)), member=place < 3) for place in range(6)]
    found = AuditSummary.model_validate(summarize(rows)).membership
    assert found is not None
    assert found.loss is not None
    assert (found.loss.auc.auc, found.loss.auc.low, found.loss.auc.high) == (0.5, None, None)


def test_without_labels_nothing_is_said_of_telling_apart() -> None:
    assert (
        AuditSummary.model_validate(summarize([facts(-1.0, membership=membership(-1.0))])).membership is None
    )


def many(rows: int, levels: int = 7) -> Iterator[ScoreFacts]:
    random = Random(rows)
    return (
        facts(-random.lognormvariate(0, 1), duplicates=random.randrange(levels), strict=random.random() < 0.3)
        for _ in range(rows)
    )


def test_a_summary_of_a_stream_is_that_of_all_rows_and_the_same_bits_each_time() -> None:
    """Oracle: numpy on all values at once."""
    found = summarize(many(5000))
    assert found == summarize(list(many(5000)))
    nls = np.array([fact.nl for fact in many(5000)], dtype=np.float64)
    summary = AuditSummary.model_validate(found)
    assert summary.log_likelihood == math.fsum(10 * nls)
    assert summary.nl is not None
    assert summary.nl.low is not None
    assert summary.nl.mean == pytest.approx(nls.mean(), rel=1e-13)
    student = stats.t.interval(0.95, 4999, loc=nls.mean(), scale=stats.sem(nls))
    assert (summary.nl.low, summary.nl.high) == pytest.approx(student, abs=0.01)
    assert summary.gain is not None
    by_level = [np.mean([fact.nl for fact in many(5000) if fact.duplicates == level]) for level in (0, 6)]
    assert summary.gain.mean == pytest.approx(by_level[1] - by_level[0], rel=1e-9)


def test_a_summary_holds_no_rows() -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        try:
            summarize(many(rows))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    small, large = peak(1000), peak(20_000)
    # To hold the rows would take millions of bytes; what else a process does meanwhile is counted too.
    assert large < small + 250_000


def test_more_levels_than_are_summarised_are_not_kept_either() -> None:
    rows = [facts(-1.0 - place / 1e4, duplicates=place, group=f"group {place}") for place in range(1500)]
    summary = AuditSummary.model_validate(summarize(rows))
    assert summary.levels == summary.dose_response == []
    assert summary.gain is not None
    assert (summary.gain.from_duplicates, summary.gain.to_duplicates) == (0, 1499)
    assert len(summarize(rows[:1000])["levels"]) == 1000


def test_a_summary_that_an_older_release_stored_can_be_read() -> None:
    mean = {"n": 4, "mean": 0.75, "low": 0.25, "high": 1.0}
    level = {"group": None, "duplicates": 1, "nl": mean, "strict": mean, "loose": None}
    summary = AuditSummary.model_validate(
        {
            "texts": 4,
            "errors": 0,
            "tokens": 40,
            "log_likelihood": -4.0,
            "perplexity": 1.1,
            "nl": mean,
            "nl_byte": mean,
            "strict": mean,
            "loose": mean,
            "similarity": mean,
            "levels": [level],
            "dose_response": [level],
            "gain": {"from_duplicates": 0, "to_duplicates": 1, **mean},
        }
    )
    assert summary.strict == ShareInterval(n=4, count=3, share=0.75, low=None, high=None)
    assert summary.levels[0].strict == summary.strict
    assert summary.nl == MeanInterval(**mean)
    assert (summary.extraction_splits, summary.verbatim, summary.p_z) == (None, None, None)


def test_a_summary_fits_the_dose_response_of_all_and_of_groups_that_reach_as_far() -> None:
    rows = [
        ScoreFacts(group, duplicates, 10, 10 * nl, nl, nl, {"extraction": {"status": "ok", "strict": strict}})
        for group, levels in (("a", (0, 4, 64)), ("b", (0, 4)), ("c", (64,)))
        for duplicates in levels
        for nl, strict in zip(
            np.linspace(-3, -2, 8) + math.log1p(duplicates) / 4,
            [place < {0: 0, 4: 1, 64: 8}[duplicates] for place in range(8)],
            strict=True,
        )
    ]
    found = AuditSummary.model_validate(summarize(rows))
    assert found.dose_fits is not None
    assert [fit.group for fit in found.dose_fits] == [None, "a"]
    for fit in found.dose_fits:
        assert [(point.duplicates, pytest.approx(point.nl)) for point in fit.fitted] == [
            (level, -2.5 + math.log1p(level) / 4) for level in (0, 4, 64)
        ]
    assert found.extraction_onset is not None
    onsets = {each.group: (each.duplicates, each.duplicates_certain) for each in found.extraction_onset}
    # One of eight is more than 1 %, and by its interval one of eight may be less; two of sixteen not.
    assert onsets == {None: (4, 4), "a": (4, 64), "b": (4, None), "c": (64, 64)}
    assert {each.rate for each in found.extraction_onset} == {0.01}


def test_texts_are_compared_with_their_group_or_with_all() -> None:
    responses = DoseResponses()
    for group, shift in (("low", 0.0), ("high", 2.0)):
        for duplicates in (0, 15):
            for nl in np.linspace(-5, -4.9, 50) + shift + math.log1p(duplicates) / 4:
                responses.add(group, duplicates, nl)
    responses.add("high", None, -1.0)
    found = equivalents_of(
        responses.fits(), ["low", "high", None, "other"], np.full(4, -4.95 + 1 + math.log(4) / 4)
    )
    # By the means of all it is 3; the lower group never had so high an NL, the other never so low a one.
    assert found[:, 0] == pytest.approx([15, 0, 3, 3])
    assert found[:2].tolist() == [[15] * 3, [0] * 3]
    assert found[2, 1] <= 0.01
    assert found[2, 2] >= 14.99
