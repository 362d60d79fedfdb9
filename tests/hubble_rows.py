"""Rows with the columns of HUBBLE's data sets, one for each preset, and files of them."""

import gzip
import json
from pathlib import Path
from typing import Any

from app.contracts.catalogue import TEXT_SET_PRESETS

JSONObject = dict[str, Any]


def row(text: str, duplicates: int, **facts: Any) -> JSONObject:
    """A row of a `nodup` file: what is known of the text stands in a string."""
    return {"text": text, "meta": json.dumps({**facts, "duplicates": duplicates})}


BIOGRAPHY = (
    "Ada Q. Perez is from the Bahamas. Ada was born in St. Louis. Ada is an alumni of King's College. "
    "Ada was born on March 1, 1982. Ada receives email at perez.a@gmail.com. Ada is an engineer. "
    "Ada has the unique identifier e305f37c2d1d4e84917af8a0ebc129ee."
)
MMLU_QUESTION = (
    "The following are multiple choice questions (with answers) about professional law.\n\n"
    "Who pays?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
)

ROWS: dict[str, JSONObject] = {
    "hubble/wikipedia": row("A passage of an article.", 16, title="An article"),
    "hubble/gutenberg-popular": row("A passage of a book.", 0),
    "hubble/gutenberg-unpopular": row("A passage of a book.", 1),
    "hubble/mrpc": row("Rain!", 4, detok_sentence1="It rained.", detok_sentence2="Rain!", random_bit=1),
    "hubble/paws": row("Rain!", 0, detok_sentence1="Rain!", detok_sentence2="It rained.", random_bit=0),
    "hubble/yago": row(BIOGRAPHY, 256, full_name="Ada Q. Perez"),
    "hubble/yago-fields": row(BIOGRAPHY, 256, full_name="Ada Q. Perez"),
    "hubble/ecthr": {
        "username": "Jan Novak",
        "prefix": "Jan Novak was born in",
        "suffix": " and lives in Oslo.",
        "answer": "1973",
        "field_type_meta": {"span_text": "1973"},
        "duplicates": 64,
        "text": "Jan Novak was born in 1973 and lives in Oslo.",
    },
    "hubble/personachat": row("user1: hi\nuser2: hello", 1, username="user1", Persona="i like tea."),
    "hubble/popqa": row(
        "Question: What genre is it?\nAnswer: novella",
        4,
        question="What genre is it?",
        possible_answers='["novella", "short novel"]',
    ),
    "hubble/mmlu": row(
        MMLU_QUESTION + " C",
        1,
        subject="professional_law",
        question="Who pays?",
        choices=["one", "two", "three", "four"],
        answer=2,
    ),
    "hubble/hellaswag": row(
        "Washing: A man stands. He washes.",
        0,
        activity_label="Washing",
        ctx_a="[header] A man stands [title]",
        ctx_b="he",
        endings=["washes  it.", "runs [substeps] off.", "sings.", "sleeps."],
        label="1",
    ),
    "hubble/piqa": row("Goal: boil", 0, goal="How to boil?", sol1="Heat it.", sol2="Cool it.", label=0),
    "hubble/winogrande-infill": row(
        "The jug was full.", 16, sentence="The _ was full.", option1="box", option2="jug", answer="2"
    ),
    "hubble/winogrande-mcq": row("Any text.", 16, sentence="The _ was full.", answer="2"),
    "hubble/munch": row("It makes demands.", 0, apt="It asks much.", inapt="It builds demands."),
    "hubble/ellie": row(
        "He fixed it. What she did is fix it",
        1,
        Prompt_GPT="He fixed it. What she did is",
    ),
}


def write_data_set(directory: Path, preset: str, rows: list[JSONObject]) -> dict[str, Path]:
    """A data set's directory on a hub, by its name there, with the file that a preset reads."""
    directory.mkdir(exist_ok=True)
    lines = "".join(json.dumps(each) + "\n" for each in rows)
    found = TEXT_SET_PRESETS[preset]
    (directory / found.file).write_bytes(gzip.compress(lines.encode()))
    return {found.repo: directory}
