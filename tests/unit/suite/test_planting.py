"""The user's own texts: read, refused, kept out of the background and inserted."""

import json
from dataclasses import replace

import pytest

from workers.suite.corpus import Corpus, decontaminate
from workers.suite.errors import PlanTooLarge, PlantRejected, TextTooLong
from workers.suite.planting import read_plant
from workers.suite.preparation import perturb, prepare
from workers.suite.texts import write_text_set
from workers.suite.tokenizer import END_OF_TEXT
from workers.suite.variants import Insertions, Variants, perturbed_models

SECRET = "the vault opens at 7 4 1"


@pytest.fixture
def written(tmp_path):
    """Write records, or lines as they are, and give their path."""

    def write(*records):
        path = tmp_path / "plant.jsonl"
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def planted(tmp_path_factory, small_corpus, tiny):
    """Two canaries: one that the corpus knows already, and one of few words."""
    known = next(document for document in small_corpus.documents if 300 < len(document) < 400)[:200].strip()
    path = tmp_path_factory.mktemp("plant") / "plant.jsonl"
    records = [
        {"id": "known", "text": known, "duplicates": 3, "group": "privacy/letters"},
        {"prefix": "The vault opens", "suffix": " at 7 4 1", "duplicates": 16, "metadata": {"kind": "code"}},
        {"text": "never said", "duplicates": 0},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    corpus = Corpus("with a code", (*small_corpus.documents, f"Remember:\n  {SECRET.upper()} always."))
    return prepare(corpus, tiny, 3, read_plant(path))


def rows(prepared, plan):
    return [prepared.tokenizer.decode(row) for row in perturb(prepared, plan, 3).sequences]


def copies(decoded, text):
    return sum(f"{END_OF_TEXT}{text}{END_OF_TEXT}" in row for row in decoded)


def test_planted_texts_are_inserted_as_often_as_they_say(planted, tiny):
    """Oracle: the decoded sequences, searched for the text between end-of-text tokens."""
    decoded = rows(planted, Insertions("perturbed", tiny))
    own = [text for text in planted.texts if text.planted]
    assert [(text.id, text.group, text.duplicates) for text in own] == [
        ("known", "privacy/letters", 3),
        ("planted-000002", "planted", 16),
        ("planted-000003", "planted", 0),
    ]
    assert [copies(decoded, text.text) for text in own] == [3, 16, 0]


def test_the_background_holds_no_planted_text(planted):
    """Oracle: the decoded background, searched for the texts; of the one, every thirteen words in a row."""
    seen = " ".join(planted.tokenizer.decode(planted.background.flatten()).lower().split())
    assert "return a tuple" in seen
    words = planted.texts[-3].text.lower().split()
    runs = [" ".join(words[first : first + 13]) for first in range(len(words) - 12)]
    assert runs
    assert not [run for run in runs if run in seen]
    assert SECRET not in seen


def test_what_is_drawn_for_the_suite_does_not_change(planted, prepared):
    own = [text for text in planted.texts if not text.planted]
    assert [text.id for text in own] == [text.id for text in prepared.texts]
    assert [text.duplicates for text in own] == [text.duplicates for text in prepared.texts]
    assert not {text.text for text in own} & {text.text for text in planted.texts if text.planted}


def test_timing_runs_leave_planted_texts_out_and_interference_keeps_their_domain(planted, tiny):
    plans = {plan.name: plan for plan in perturbed_models(tiny, Variants(timing=True, interference=True))}
    known, code, _ = (text.text for text in planted.texts if text.planted)
    timing = perturb(planted, plans["timing/0-25"], 3)
    assert {text.duplicates for text in timing.texts if text.planted} == {0}
    assert copies(rows(planted, plans["interference/privacy"]), known) == 3
    assert copies(rows(planted, plans["interference/copyright"]), known) == 0
    assert copies(rows(planted, plans["interference/privacy"]), code) == 0


def test_a_text_set_keeps_what_a_planted_record_said(planted, tmp_path):
    write_text_set(tmp_path / "texts.jsonl", planted.texts)
    record = json.loads((tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()[-2])
    assert record == {
        "id": "planted-000002",
        "text": "The vault opens at 7 4 1",
        "prefix": "The vault opens",
        "suffix": " at 7 4 1",
        "duplicates": 16,
        "group": "planted",
        "member": True,
        "metadata": {"kind": "code"},
    }


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"text": SECRET}, "line 2: duplicates is missing"),
        ({"text": SECRET, "duplicates": "9"}, "line 2: duplicates: Input should be a valid integer"),
        ({"text": SECRET, "duplicates": -1}, "line 2: duplicates: Input should be greater"),
        ({"duplicates": 1}, "line 2: record: Give text"),
        ({"text": SECRET, "duplicates": 1, SECRET: 1}, "line 2: unknown field: Extra inputs"),
        ({"text": SECRET, "duplicates": 1, "id": SECRET}, "line 2: id: String should match"),
        ({"text": SECRET, "duplicates": 0, "member": True}, "line 2: member contradicts duplicates"),
        ({"text": f"{SECRET}{END_OF_TEXT}", "duplicates": 1}, "line 2: the text holds <|endoftext|>"),
        ({"text": " \n", "duplicates": 1}, "line 2: the text is empty"),
        ({"id": "first", "text": SECRET, "duplicates": 1}, "line 2: the id of line 1 again"),
        ({"text": "first text", "duplicates": 9}, "line 2: the text of line 1 again"),
        (f'{{"text": "{SECRET}"', "line 2: record: Invalid JSON"),
    ],
)
def test_a_bad_record_is_refused_by_its_line_and_never_quoted(written, record, told):
    path = written({"id": "first", "text": "first text", "duplicates": 1}, record)
    with pytest.raises(PlantRejected) as refused:
        read_plant(path)
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)


def test_no_records_are_refused(written):
    with pytest.raises(PlantRejected, match="no records"):
        read_plant(written(""))


def test_a_text_that_does_not_fit_a_sequence_is_refused(written, small_corpus, tiny):
    path = written({"text": "short", "duplicates": 1}, "", {"text": f"{SECRET} " * 40, "duplicates": 1})
    with pytest.raises(
        TextTooLong, match=r"line 3: the text has .* tokens, and a sequence takes at most 127"
    ):
        prepare(small_corpus, tiny, 3, read_plant(path))


def test_the_id_of_one_of_the_suites_texts_is_refused(written, small_corpus, tiny):
    path = written({"id": "privacy-biographies-0001", "text": SECRET, "duplicates": 1})
    with pytest.raises(PlantRejected, match="line 1: the id is one of the suite's own"):
        prepare(small_corpus, tiny, 3, read_plant(path))


def test_more_copies_than_sequences_are_refused(planted, tiny):
    texts = tuple(replace(text, duplicates=2500) if text.planted else text for text in planted.texts)
    with pytest.raises(PlanTooLarge, match="2400 training sequences"):
        perturb(replace(planted, texts=texts), Insertions("perturbed", tiny), 3)


def test_short_texts_are_looked_for_as_they_stand():
    documents = ["a code of\nFOUR words here", "four other words", "nothing"]
    assert decontaminate(documents, ["Code of four"]) == documents[1:]
    assert decontaminate(documents, []) == documents
