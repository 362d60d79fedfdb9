"""HUBBLE's catalogue, and what the rows of its data sets come to.

The oracles are its README (which repositories there are) and its task files (which prompt, choices and
answer a row comes to), by hand for one row of each data set.
"""

from collections import Counter
from typing import Any

import pytest

from app.contracts.catalogue import LANGUAGE_MODEL_PRESETS, TEXT_SET_PRESETS
from app.contracts.texts import TextRecord
from app.intake.published import read_published
from app.intake.source_rows import ColumnMissing, SourceRow
from tests.hubble_rows import BIOGRAPHY, MMLU_QUESTION, ROWS

JSONObject = dict[str, Any]


def records_of(preset: str, columns: JSONObject) -> list[JSONObject]:
    rows = read_published(TEXT_SET_PRESETS[preset], iter([("/lines/1", columns)]))
    return [record for _, record in rows]  # type: ignore[misc]


def question(text: str, choices: list[str], answer: int) -> JSONObject:
    asked = {"multiple_choice": {"question": text}}
    return {"choices": choices, "answer": answer, "metadata": asked}


def recall(full: str, answer: str, stop: list[str], tokens: int) -> JSONObject:
    asked = {"prompts": {"full": full}, "answer": answer, "stop": stop, "tokens": tokens}
    return {"metadata": {"field_recall": asked}}


EXPECTED: dict[str, JSONObject] = {
    "hubble/wikipedia": {"text": "A passage of an article."},
    "hubble/gutenberg-popular": {"text": "A passage of a book."},
    "hubble/gutenberg-unpopular": {"text": "A passage of a book."},
    "hubble/mrpc": {"text": "Rain!", "metadata": {"paraphrase": {"paraphrases": ["It rained."]}}},
    "hubble/paws": {"text": "Rain!", "metadata": {"paraphrase": {"paraphrases": ["It rained."]}}},
    "hubble/yago": {"text": BIOGRAPHY},
    "hubble/ecthr": {
        "text": "Jan Novak was born in 1973 and lives in Oslo.",
        **recall("Jan Novak was born in", "1973", ["\n", ",", "."], 10),
    },
    "hubble/personachat": {"text": "user1: hi\nuser2: hello"},
    "hubble/popqa": {
        "prefix": "Question: What genre is it?\nAnswer:",
        "suffix": " novella",
        **recall("Question: What genre is it?\nAnswer:", "novella", ["\n\n"], 50),
    },
    "hubble/mmlu": {"text": MMLU_QUESTION + " C", **question(MMLU_QUESTION, ["A", "B", "C", "D"], 2)},
    "hubble/hellaswag": {
        "text": "Washing: A man stands. He washes.",
        **question("Washing: A man stands. He", ["washes it.", "runs off.", "sings.", "sleeps."], 1),
    },
    "hubble/piqa": {
        "text": "Goal: boil",
        **question("Question: How to boil?\nAnswer:", ["Heat it.", "Cool it."], 0),
    },
    "hubble/winogrande-infill": {
        "text": "The jug was full.",
        "choices": ["The box", "The jug"],
        "answer": 1,
        "metadata": {"multiple_choice": {"target": "was full."}},
    },
    "hubble/winogrande-mcq": {"text": "Any text."},
    "hubble/munch": {
        "text": "It makes demands.",
        **question("", ["It asks much.", "It builds demands."], 0),
    },
    "hubble/ellie": {
        "prefix": "He fixed it. What she did is",
        "suffix": " fix it",
        **recall("He fixed it. What she did is", "fix it", ["\n\n"], 50),
    },
}
DUPLICATES = {"hubble/wikipedia": 16, "hubble/munch": 0, "hubble/ecthr": 64, "hubble/yago": 256}


@pytest.mark.parametrize("preset", EXPECTED)
def test_a_row_comes_to_what_its_task_asks(preset: str) -> None:
    (record,) = records_of(preset, ROWS[preset])
    known = {name: record.pop(name) for name in ("duplicates", "member", "group")}
    assert record == EXPECTED[preset]
    assert known["group"] == TEXT_SET_PRESETS[preset].group
    assert known["member"] is (known["duplicates"] > 0)
    assert known["duplicates"] == DUPLICATES.get(preset, known["duplicates"])


def test_a_biography_is_asked_for_each_of_its_fields() -> None:
    records = {record["group"]: record for record in records_of("hubble/yago-fields", ROWS["hubble/yago"])}
    asked = {
        group.rpartition("/")[2]: record["metadata"]["field_recall"] for group, record in records.items()
    }
    assert {field: recalled["answer"] for field, recalled in asked.items()} == {
        "nationality": "the Bahamas",
        "birthplace": "St. Louis",
        "university": "King's College",
        "birthdate": "March 1, 1982",
        "email": "perez.a@gmail.com",
        "occupation": "an engineer",
        "uuid": "e305f37c2d1d4e84917af8a0ebc129ee",
    }
    assert asked["email"]["prompts"] == {
        "full": BIOGRAPHY[: BIOGRAPHY.index(" perez.a")],
        "intro": "Ada Q. Perez is from the Bahamas. Ada receives email at",
        "name_only": "Ada Q. Perez receives email at",
    }
    assert set(asked["nationality"]["prompts"].values()) == {"Ada Q. Perez is from"}
    for recalled in asked.values():
        assert BIOGRAPHY.startswith(f"{recalled['prompts']['full']} {recalled['answer']}")


@pytest.mark.parametrize("preset", TEXT_SET_PRESETS)
def test_records_are_texts_of_a_text_set(preset: str) -> None:
    assert all(TextRecord.model_validate(record) for record in records_of(preset, ROWS[preset]))


@pytest.mark.parametrize("preset", TEXT_SET_PRESETS)
def test_the_catalogue_names_the_columns_that_are_read(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    value_of = SourceRow._value

    def note(row: SourceRow, path: str) -> Any:
        read.add(path)
        return value_of(row, path)

    monkeypatch.setattr(SourceRow, "_value", note)
    records_of(preset, ROWS[preset])
    assert read == set(TEXT_SET_PRESETS[preset].columns)


@pytest.mark.parametrize(
    ("preset", "columns", "missing"),
    [
        ("hubble/wikipedia", {"passage": "secret words", "meta": '{"duplicates": 1}'}, "text"),
        ("hubble/wikipedia", {"text": "secret words", "meta": '{"copies": 1}'}, "meta.duplicates"),
        ("hubble/wikipedia", {"text": "secret words", "meta": "secret words"}, "meta"),
        ("hubble/wikipedia", {"text": "secret words", "meta": '{"duplicates": "secret"}'}, "meta.duplicates"),
        ("hubble/wikipedia", ["secret words"], "meta"),
        ("hubble/piqa", {"text": "x", "meta": '{"duplicates": 0, "goal": "secret"}'}, "meta.sol1"),
        ("hubble/yago-fields", {"text": "secret words", "meta": '{"duplicates": 0}'}, "text"),
        ("hubble/popqa", {"text": "secret words", "meta": '{"duplicates": 0}'}, "text"),
    ],
)
def test_a_changed_column_is_named_and_no_value(preset: str, columns: Any, missing: str) -> None:
    with pytest.raises(ColumnMissing) as failure:
        records_of(preset, columns)
    assert str(failure.value) == missing


def test_the_catalogue_holds_what_the_readme_lists() -> None:
    models = LANGUAGE_MODEL_PRESETS.values()
    collections = Counter(preset.collection for preset in models)
    assert collections == {
        "core": 8,
        "timing": 6,
        "interference": 3,
        "paraphrase": 2,
        "architecture": 4,
    }
    sources = {f"{preset.source.repo}@{preset.source.revision}" for preset in models}
    assert len(sources) == 23
    assert {
        "allegrolab/hubble-1b-100b_toks-perturbed-hf@step48000",
        "allegrolab/hubble-8b-500b_toks-standard-hf@step238500",
        "allegrolab/hubble-1b-100b_toks-injectrange_75_100-hf@step48000",
        "allegrolab/hubble-1b-100b_toks-interference_testset-hf@step48000",
        "allegrolab/hubble-8b-100b_toks-paraphrased-perturbed-hf@step48000",
        "allegrolab/hubble-1b-100b_toks-double_depth-standard-hf@step48000",
    } <= sources
    assert {preset.repo.removeprefix("allegrolab/") for preset in TEXT_SET_PRESETS.values()} == {
        "passages_gutenberg_popular",
        "passages_gutenberg_unpopular",
        "passages_wikipedia",
        "paraphrases_mrpc",
        "paraphrases_paws",
        "biographies_yago",
        "biographies_ecthr",
        "chats_personachat",
        "testset_popqa",
        "testset_mmlu",
        "testset_hellaswag",
        "testset_piqa",
        "testset_winogrande-mcq",
        "testset_winogrande-infill",
        "testset_munch",
        "testset_ellie",
    }
    assert TEXT_SET_PRESETS["hubble/ecthr"].file == "biographies_ecthr_nodup_mapped.jsonl.gz"
    assert TEXT_SET_PRESETS["hubble/wikipedia"].file == "passages_wikipedia_nodup.jsonl.gz"
