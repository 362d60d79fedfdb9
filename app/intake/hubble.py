"""HUBBLE's data sets as records of a text set; `docs/hubble.md` says how a text carries each of its tasks."""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from app.intake.source_rows import ColumnMissing, SourceRow

Record: TypeAlias = dict[str, Any]
ReadRow: TypeAlias = Callable[[SourceRow], Iterator[Record]]

LETTERS: Final = ("A", "B", "C", "D")
_ANSWER: Final = "\nAnswer:"
# Until when the task files let a model go on, and how far.
_SENTENCE: Final[Record] = {"stop": ["\n\n"], "tokens": 50}
_SPAN: Final[Record] = {"stop": ["\n", ",", "."], "tokens": 10}

# The sentences of a biography, in their order. Each is about the first word of the name.
_BIOGRAPHY: Final = re.compile(
    r"(?P<name>(?P<first>\S+).*?) is from (?P<nationality>.+?)\. "
    r"(?P=first) was born in (?P<birthplace>.+?)\. "
    r"(?P=first) is an alumni of (?P<university>.+?)\. "
    r"(?P=first) was born on (?P<birthdate>.+?)\. "
    r"(?P=first) receives email at (?P<email>\S+)\. "
    r"(?P=first) is (?P<occupation>.+?)\. "
    r"(?P=first) has the unique identifier (?P<uuid>[0-9a-f]{32})\.",
)
# What stands between a name and the field, as the task files prompt for it.
_FIELDS: Final = MappingProxyType(
    {
        "nationality": "is from",
        "birthplace": "was born in",
        "university": "is an alumni of",
        "birthdate": "was born on",
        "email": "receives email at",
        "occupation": "is",
        "uuid": "has the unique identifier",
    }
)


def read_texts(row: SourceRow) -> Iterator[Record]:
    """The text that was inserted, and nothing to ask of it."""
    yield {"text": row.text("text")}


def read_paraphrases(row: SourceRow) -> Iterator[Record]:
    """The wording that was inserted, and the other one of its pair."""
    pair = [row.text("meta.detok_sentence1"), row.text("meta.detok_sentence2")]
    other = pair[1 - row.number("meta.random_bit", below=2)]
    yield {"text": row.text("text"), "metadata": {"paraphrase": {"paraphrases": [other]}}}


def read_biography_fields(row: SourceRow) -> Iterator[Record]:
    """A biography for each of its fields, with HUBBLE's three prompts for it."""
    text = row.text("text")
    found = _BIOGRAPHY.fullmatch(text)
    if found is None:
        raise ColumnMissing("text")
    name, first = found["name"], found["first"]
    intro = f"{name} is from {found['nationality']}."
    for field, words in _FIELDS.items():
        only = f"{name} {words}"
        prompts = {
            "full": text[: found.start(field)].rstrip(),
            "intro": only if field == "nationality" else f"{intro} {first} {words}",
            "name_only": only,
        }
        yield {
            "text": text,
            "group": field,
            "metadata": {"field_recall": {"prompts": prompts, "answer": found[field]}},
        }


def read_annotated_span(row: SourceRow) -> Iterator[Record]:
    """A biography and one span of it that is asked for."""
    recall = {"prompts": {"full": row.text("prefix")}, "answer": row.text("answer"), **_SPAN}
    yield {"text": row.text("text"), "metadata": {"field_recall": recall}}


def read_short_answer(row: SourceRow) -> Iterator[Record]:
    """A question and its answer, split between the two."""
    text = row.text("text")
    question, mark, answer = text.rpartition(_ANSWER)
    if not mark:
        raise ColumnMissing("text")
    recall = {
        "prompts": {"full": f"Question: {row.text('meta.question')}{_ANSWER}"},
        "answer": row.texts("meta.possible_answers")[0],
        **_SENTENCE,
    }
    yield {"prefix": question + mark, "suffix": answer, "metadata": {"field_recall": recall}}


def read_lettered_choices(row: SourceRow) -> Iterator[Record]:
    """A question with four choices, of which the letter is the answer."""
    subject = row.text("meta.subject").replace("_", " ")
    choices = row.texts("meta.choices", len(LETTERS))
    lines = [f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, choices, strict=True)]
    question = (
        f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        f"{row.text('meta.question')}\n{''.join(lines)}Answer:"
    )
    yield _choice(row, question, list(LETTERS), row.number("meta.answer", below=len(LETTERS)))


def read_endings(row: SourceRow) -> Iterator[Record]:
    """A beginning and its possible endings, without the brackets that one of their sources left behind."""
    beginning = f"{row.text('meta.ctx_a')} {row.text('meta.ctx_b').capitalize()}"
    endings = row.texts("meta.endings")
    question = _without_brackets(f"{row.text('meta.activity_label')}: {beginning}")
    answer = row.number("meta.label", below=len(endings))
    yield _choice(row, question, [_without_brackets(ending) for ending in endings], answer)


def read_solutions(row: SourceRow) -> Iterator[Record]:
    """A goal and two ways to it."""
    solutions = [row.text("meta.sol1"), row.text("meta.sol2")]
    question = f"Question: {row.text('meta.goal')}{_ANSWER}"
    yield _choice(row, question, solutions, row.number("meta.label", below=2))


def read_gap(row: SourceRow) -> Iterator[Record]:
    """A sentence whose gap one of two options fills: what follows the gap is scored after each."""
    before, gap, after = row.text("meta.sentence").partition("_")
    if not gap:
        raise ColumnMissing("meta.sentence")
    answer = row.number("meta.answer", below=3) - 1
    if answer < 0:
        raise ColumnMissing("meta.answer")
    yield {
        "text": row.text("text"),
        "choices": [before + row.text("meta.option1"), before + row.text("meta.option2")],
        "answer": answer,
        "metadata": {"multiple_choice": {"target": after.strip()}},
    }


def read_aptness(row: SourceRow) -> Iterator[Record]:
    """An apt and an inapt paraphrase."""
    yield _choice(row, "", [row.text("meta.apt"), row.text("meta.inapt")], 0)


def read_ellipsis(row: SourceRow) -> Iterator[Record]:
    """A prompt and what was left out, split between the two."""
    text, prompt = row.text("text"), row.text("meta.Prompt_GPT").rstrip()
    if not text.startswith(prompt) or text == prompt:
        raise ColumnMissing("meta.Prompt_GPT")
    omitted = text[len(prompt) :]
    recall = {"prompts": {"full": prompt}, "answer": omitted.strip(), **_SENTENCE}
    yield {"prefix": prompt, "suffix": omitted, "metadata": {"field_recall": recall}}


def _choice(row: SourceRow, question: str, choices: list[str], answer: int) -> Record:
    return {
        "text": row.text("text"),
        "choices": choices,
        "answer": answer,
        "metadata": {"multiple_choice": {"question": question}},
    }


def _without_brackets(text: str) -> str:
    """As HellaSwag's task file cleans what came from WikiHow."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


READ_ROW: Final[Mapping[str, ReadRow]] = MappingProxyType(
    {
        "hubble/wikipedia": read_texts,
        "hubble/gutenberg-popular": read_texts,
        "hubble/gutenberg-unpopular": read_texts,
        "hubble/mrpc": read_paraphrases,
        "hubble/paws": read_paraphrases,
        "hubble/yago": read_texts,
        "hubble/yago-fields": read_biography_fields,
        "hubble/ecthr": read_annotated_span,
        "hubble/personachat": read_texts,
        "hubble/popqa": read_short_answer,
        "hubble/mmlu": read_lettered_choices,
        "hubble/hellaswag": read_endings,
        "hubble/piqa": read_solutions,
        "hubble/winogrande-infill": read_gap,
        "hubble/winogrande-mcq": read_texts,
        "hubble/munch": read_aptness,
        "hubble/ellie": read_ellipsis,
    }
)
