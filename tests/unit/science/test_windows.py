"""Windows over whole documents, and the passages that are found in them."""

import copy
import math
import random
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from app.contracts.metrics.windows import WindowsScore
from app.contracts.metrics.windows import WindowsSummary as Shown
from tests.tiny_models import english_sentences, save_reciting_model
from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.options import MeasurementOptions, WindowOptions
from workers.science.measurements.windows import WindowsSummary, measure_windows
from workers.science.models.loading import load_language_model
from workers.science.models.tokenization import tokenize
from workers.science.passages.book import MOST_POINTS, MOST_SPANS, book_result, share_covered
from workers.science.passages.overlapping import (
    RecalledTokens,
    cut_chunks,
    overlap_of_chunks,
    recall_documents,
)
from workers.science.passages.spans import Document, Span, SpanFinder, densest_stretch, merged
from workers.science.passages.windows import windows_of
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts
from workers.science.scoring.vocabulary.sampling import Sampling

SAMPLING = Sampling(temperature=0.9, top_k=100)
MANUAL = " ".join(english_sentences()[:60])


def random_tokens(n, seed=0):
    generator = np.random.default_rng(seed)
    log_p = np.log(generator.uniform(0.5, 1, n)).astype(np.float32)
    log_p[generator.uniform(size=n) < 0.02] = -np.inf
    return RecalledTokens(log_p, generator.uniform(size=n) < 0.95, generator.uniform(size=n) < 0.02, log_p)


def test_windows_are_what_each_is_by_itself():
    tokens = random_tokens(400)
    windows = windows_of(tokens, prefix_tokens=7, suffix_tokens=11, stride=3)
    assert windows.suffixes.tolist() == [start + 7 for start in range(0, 400 - 18 + 1, 3)]
    for first, matched, log_p in zip(windows.suffixes, windows.matched, windows.log_p, strict=True):
        expected = 0
        for place in range(first, first + 11):
            expected += tokens.recited[place]
            if not tokens.recited[place] or tokens.ends[place]:
                break
        assert matched == expected
        one_by_one = tokens.sampling_log_likelihood[first : first + 11].sum(dtype=np.float64)
        if tokens.ends[first : first + 10].any():
            one_by_one = -math.inf
        assert log_p == pytest.approx(one_by_one, abs=1e-9)
    assert 0 < windows.strict.sum() < len(windows)


def test_runs_end_with_a_mistake_and_with_an_end_token():
    recited = np.array([1, 1, 0, 1, 1, 1, 0, 1], dtype=bool)
    ends = np.array([0, 0, 0, 0, 1, 0, 1, 0], dtype=bool)
    tokens = RecalledTokens(np.zeros(8), recited, ends, np.zeros(8))
    assert tokens.runs(1) == [(0, 2), (3, 5), (5, 6), (7, 8)]
    assert tokens.runs(2) == [(0, 2), (3, 5)]


@pytest.mark.parametrize(("n_tokens", "room", "overlap"), [(1, 9, 4), (10, 9, 4), (11, 9, 4), (300, 31, 15)])
def test_chunks_hold_every_token_once_with_enough_before_it(n_tokens, room, overlap):
    chunks = list(cut_chunks(n_tokens, room, overlap))
    assert [place for chunk in chunks for place in range(chunk.first_new, chunk.stop)] == list(
        range(n_tokens)
    )
    for chunk in chunks:
        assert chunk.stop - chunk.start <= room + 1
        assert chunk.first_new - chunk.start >= min(overlap, chunk.first_new)


def test_the_overlap_is_a_window_where_the_context_is_long_enough():
    assert overlap_of_chunks(2047, 50, 50) == 99
    assert overlap_of_chunks(127, 50, 50) == 63
    assert overlap_of_chunks(80, 50, 50) == 50
    assert overlap_of_chunks(60, 50, 50) is None


@pytest.mark.parametrize("choice", ["auto", "eos", "none"])
def test_tokens_are_scored_as_in_their_chunk(llama, choice):
    """The oracle is transformers in float64 over each chunk by itself."""
    prefix_token = resolve_prefix_token(choice, llama)
    front = list(prefix_token.in_front)
    (tokens,) = tokenize(llama.tokenizer, [MANUAL[:900]])
    (recalled,) = recall_documents(
        llama,
        [tokens.token_ids],
        prefix_token,
        SAMPLING,
        overlap=40,
        batch_tokens=None,
        on_progress=lambda _: None,
    )
    model = copy.deepcopy(llama.model).double()
    chunks = list(cut_chunks(len(tokens.token_ids), 128 - len(front), 40))
    assert len(chunks) > 2
    for chunk in chunks:
        ids = tokens.token_ids[chunk.start : chunk.stop]
        with torch.inference_mode():
            logits = model(torch.tensor([[*front, *ids]])).logits[0]
        for place in range(max(chunk.first_new, 1 - len(front)), chunk.stop):
            row = logits[len(front) + place - chunk.start - 1]
            token = ids[place - chunk.start]
            assert recalled.log_likelihood[place] == pytest.approx(float(row.log_softmax(0)[token]), abs=1e-4)
            assert recalled.recited[place] == (row.argmax() == token)
            top = (row / 0.9).topk(100)
            drawn = dict(zip(top.indices.tolist(), top.values.log_softmax(0).tolist(), strict=True))
            expected = drawn.get(int(token), -math.inf)
            assert recalled.sampling_log_likelihood[place] == pytest.approx(expected, abs=1e-4)


def subject_of(language_model, choice="auto", **options):
    return Subject(
        language_model=language_model,
        prefix_token=resolve_prefix_token(choice, language_model),
        scoring=ScoringOptions(metrics=frozenset(), temperature=0.9, top_k=100),
        options=MeasurementOptions(windows=WindowOptions(**options)),
    )


def test_the_first_window_is_what_extraction_and_p_z_find(reciting, recited_texts):
    scoring = ScoringOptions(
        metrics=frozenset({"extraction", "p_z"}),
        prefix_tokens=20,
        suffix_tokens=30,
        temperature=0.9,
        top_k=100,
    )
    subject = subject_of(reciting, prefix_tokens=20, suffix_tokens=30, stride=1)
    texts = [TextInput(text) for text in recited_texts]
    measured = measure_windows(subject, [MeasuredText(text=text) for text in texts], lambda _: None)
    for score, found in zip(score_texts(reciting, texts, scoring), measured, strict=True):
        point = found["coverage"][0]
        assert point["matched_tokens"] == score.metrics["extraction"]["matched_tokens"]
        assert point["p_z"] == pytest.approx(score.metrics["p_z"]["p_z"], rel=1e-3)
    assert any(point["matched_tokens"] == 30 for found in measured for point in found["coverage"])


@pytest.fixture(scope="module")
def foreign(recited_texts):
    return [text for text in english_sentences() if text not in recited_texts and len(text) < 200]


@pytest.fixture(scope="module")
def remembering(tmp_path_factory, recited_texts, foreign):
    """A model that recites texts after BOS, which its tokenizer adds, and amid foreign ones."""
    directory = save_reciting_model(
        tmp_path_factory.mktemp("remembering"), recited_texts, bos=True, amid=foreign
    )
    return load_language_model(directory, device="cpu")


def test_a_planted_text_is_found_with_its_characters(remembering, recited_texts, foreign):
    """And nothing is in the same document without it. What is planted is cut where training cut it."""
    subject = subject_of(remembering, prefix_tokens=20, suffix_tokens=30)
    generator = random.Random(4)
    for text in recited_texts:
        tokens = tokenize(remembering.tokenizer, [text])[0]
        plant = text[: tokens.offsets[: remembering.context_length - 1][-1, 1]]
        before = "\n".join(generator.sample(foreign, 6)) + "\n"
        after = "\n" + "\n".join(generator.sample(foreign, 4))
        done = []
        with_plant, without = measure_windows(
            subject,
            [MeasuredText(text=TextInput(before + middle + after)) for middle in (plant, foreign[0])],
            done.append,
        )
        (span,) = with_plant["spans"]
        assert (span["start"], span["end"]) == (len(before), len(before) + len(plant))
        assert span["start"] <= span["recited_start"] < span["recited_end"] <= span["end"]
        assert span["recited_tokens"] >= 30
        assert (with_plant["longest_characters"], with_plant["span_count"]) == (len(plant), 1)
        assert without["spans"] == []
        assert done == sorted(done)
        assert done[-1] == 2


def test_a_short_text_and_a_short_context_have_no_window(llama):
    text = MeasuredText(text=TextInput("Short."))
    assert measure_windows(subject_of(llama), [text], lambda _: None) == [{"status": "not_applicable"}]
    subject = subject_of(replace(llama, context_length=60))
    long = MeasuredText(text=TextInput(MANUAL))
    assert measure_windows(subject, [long], lambda _: None) == [{"status": "not_applicable"}]


def test_work_stops_when_progress_raises(llama):
    def stop(_done):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        measure_windows(subject_of(llama), [MeasuredText(text=TextInput(MANUAL))], stop)


def test_the_share_covered_counts_characters_once():
    windows = windows_of(random_tokens(90), prefix_tokens=5, suffix_tokens=10, stride=4)
    offsets = np.array([(3 * place, 3 * place + 3) for place in range(90)], dtype=np.int32)
    chosen = np.random.default_rng(1).uniform(size=len(windows)) < 0.3
    covered = {
        character for first in windows.suffixes[chosen] for character in range(3 * first, 3 * (first + 10))
    }
    assert share_covered(windows, chosen, offsets, 300) == len(covered) / 300


def test_a_result_is_bounded_whatever_the_document():
    n_tokens = 50_000
    tokens = random_tokens(n_tokens)
    windows = windows_of(tokens, prefix_tokens=50, suffix_tokens=50, stride=1)
    offsets = np.array([(place, place + 1) for place in range(n_tokens)], dtype=np.int32)
    spans = [Span(at, at + 60, at + 5, at + 60, -1.0, "separator") for at in range(0, 40_000, 100)]
    spans[7] = replace(spans[7], stop=spans[7].stop + 20)
    result = book_result(windows, spans, offsets, n_tokens, 99)
    shown = WindowsScore.model_validate(result).model_dump()
    assert shown == result
    assert result["span_count"] == 400
    assert len(result["spans"]) == MOST_SPANS
    assert (result["longest_tokens"], result["spans"][7]["end"]) == (80, 780)
    assert len(result["coverage"]) == MOST_POINTS
    largest = max(point["p_z"] for point in result["coverage"])
    assert largest == pytest.approx(math.exp(windows.log_p.max()), rel=1e-3)


def test_passages_that_meet_are_one_with_the_longer_run():
    """The middle of a book is recited in place for longer than after a separator; both edges are kept."""
    begun = Span(90, 160, 100, 160, -1.0, "separator")
    alone = Span(500, 600, 510, 600, -2.0, "separator")
    for run, expected in (
        (Span(120, 300, 120, 300, -3.0, "document"), Span(90, 300, 120, 300, -3.0, "document")),
        (Span(130, 170, 130, 170, -3.0, "document"), Span(90, 170, 100, 160, -1.0, "separator")),
        (Span(160, 190, 160, 190, -3.0, "document"), begun),
    ):
        found = merged([alone, begun], [run])
        assert found == [expected, *([run] if expected is begun else []), alone]


def test_a_span_is_one_run_and_its_beginning(llama, monkeypatch):
    """Two recited runs with foreign tokens between them are not one passage; a late run has no beginning."""
    finder = SpanFinder(llama, resolve_prefix_token("auto", llama), SAMPLING, 50, lambda: None)
    long = replace(llama, context_length=2000)
    monkeypatch.setattr(finder, "_language_model", long)
    for first, expected in ((10, (0, 70, 10, 70)), (65, None)):
        recited = np.zeros(1200, dtype=bool)
        recited[first : 70 if first == 10 else 125] = recited[1070:1140] = True
        nothing = np.zeros(1200, dtype=np.float32)
        read = RecalledTokens(nothing, recited, np.zeros(1200, dtype=bool), nothing)
        monkeypatch.setattr(RecalledTokens, "of", lambda *_, read=read: read)
        monkeypatch.setattr(finder, "_score", lambda *_, **__: SimpleNamespace(of=lambda _: slice(None)))
        document = Document(np.zeros(1200, dtype=np.int64), np.zeros(1200, dtype=bool), read)
        span = finder._read(document, 0)
        assert (span and (span.start, span.stop, span.run_start, span.run_stop)) == expected


def test_many_passages_are_merged_in_one_sweep():
    runs = [Span(3 * at, 3 * at + 1, 3 * at, 3 * at + 1, -1.0, "document") for at in range(20_000)]
    start = time.perf_counter()
    assert merged([], runs) == runs
    assert time.perf_counter() - start < 5


def test_the_densest_stretch_begins_where_density_does():
    recited = np.zeros(100, dtype=np.int64)
    recited[30:60] = 1
    assert densest_stretch(recited, 20) == (24, 30)
    assert densest_stretch(recited[:45], 40) is None
    assert densest_stretch(recited[:10], 20) is None


def test_a_summary_leaves_out_what_has_no_window():
    summary = WindowsSummary()
    assert summary.result() is None
    summary.add({"status": "not_applicable"})
    assert summary.result()["strict"] is None
    extractable = [{"p": 0.01, "share": 0.5}]
    for strict, longest in ((0.2, 60), (0.4, 0)):
        summary.add(
            {
                "status": "ok",
                "windows": 10,
                "strict": strict,
                "extractable": extractable,
                "span_count": 1,
                "longest_tokens": longest,
            }
        )
    result = summary.result()
    assert Shown.model_validate(result).model_dump() == result
    assert (result["documents"], result["not_applicable"], result["windows"]) == (2, 1, 20)
    assert (result["span_count"], result["longest_tokens"]) == (2, 60)
    assert result["strict"]["mean"] == pytest.approx(0.3)
    assert result["extractable"][0]["share"]["n"] == 2
