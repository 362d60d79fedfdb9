"""`model-card`: a section for a model's README on the Hub, with the results as its `model-index`.

The README is that of the audited language model, of the edited one, or of the last of a study.

The front matter is YAML, of which JSON is a part, so each value is written as JSON.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from app.evidence.cautions import cautions
from app.evidence.format import EvidenceFormat
from app.evidence.judged import standards
from app.evidence.measurements import Measurement, measurements
from app.evidence.record import EvidenceRecord, ModelRole, RecordedModel, RecordedTextSet

_TASK: Final = {"type": "text-generation", "name": "Memorization"}
_SPECIAL: Final = str.maketrans({character: f"\\{character}" for character in r"\`*_{}[]<>()#+-!|~"})


def render(record: EvidenceRecord) -> bytes:
    """The front matter and the section of a record."""
    front = json.dumps({"model-index": _index(record)}, indent=2, ensure_ascii=False)
    front = front.removeprefix("{\n").removesuffix("\n}")
    return "\n".join(["---", _dedented(front), "---", "", *_section(record), ""]).encode()


def _dedented(lines: str) -> str:
    return "\n".join(line.removeprefix("  ") for line in lines.splitlines())


def _index(record: EvidenceRecord) -> list[dict[str, Any]]:
    """The entry of the language model whose README this is for, with a result for each text set."""
    model = _described(record)
    overall = [each for each in measurements(record) if each.overall and each.model == model.id]
    found = {texts.id: [each for each in overall if each.text_set == texts.id] for texts in record.text_sets}
    sets = {texts.id: texts for texts in record.text_sets}
    results = [_result(sets[text_set], numbers) for text_set, numbers in found.items() if numbers]
    return [{"name": model.name, "results": results}]


def _described(record: EvidenceRecord) -> RecordedModel:
    """The audited language model, the edited one, or the last of a study."""
    return [model for model in record.models if model.role != ModelRole.REFERENCE][-1]


def _result(texts: RecordedTextSet, found: list[Measurement]) -> dict[str, Any]:
    return {
        "task": _TASK,
        "dataset": {"name": texts.name, "type": "private", "revision": texts.hmac_sha256},
        "metrics": [_metric(each) for each in found],
    }


def _metric(measured: Measurement) -> dict[str, Any]:
    known = {"n": measured.n, "low": measured.low, "high": measured.high, "unit": measured.unit}
    args = {name: value for name, value in known.items() if value is not None}
    return {"type": measured.name, "name": measured.name, "value": measured.value, "args": args}


def _section(record: EvidenceRecord) -> Iterator[str]:
    yield "## Memorization"
    yield ""
    yield (
        f"Measured by memaudit {record.software}: {record.kind} `{record.id}`, "
        f"finished {record.finished_at:%Y-%m-%d}. Natural logarithms; intervals are for 95 %."
    )
    yield from _judgements(record)
    for model in record.models:
        yield from _table(record, model)
    yield from ("", "### What these numbers do not prove", "")
    yield from (f"- {caution}" for caution in cautions(record))
    yield from ("", "### What was measured", "")
    for model in record.models:
        yield f"- {model.role}: {_plain(model.name)}, files SHA-256 `{model.digest}`"
    for texts in record.text_sets:
        digest = f"HMAC-SHA-256 `{texts.hmac_sha256}`"
        yield f"- texts ({texts.role}): {_plain(texts.name)}, {texts.texts} texts, {digest}"


def _judgements(record: EvidenceRecord) -> Iterator[str]:
    found = list(standards(record))
    if not found:
        return
    yield from ("", "| policy | rule | outcome | what was observed |", "|---|---|---|---|")
    for standard in found:
        policy = _plain(standard.name) + (f" v{standard.version}" if standard.version else "")
        for judged in standard.judged:
            rule, found_out = _plain(judged.identifier), _plain(judged.statement)
            yield f"| {policy} | {rule} | {judged.outcome} | {found_out} |"


def _table(record: EvidenceRecord, model: RecordedModel) -> Iterator[str]:
    names = {texts.id: texts.name for texts in record.text_sets}
    found = [each for each in measurements(record) if each.overall and each.model == model.id]
    if not found:
        return
    yield from ("", f"### {_plain(model.label)}: {_plain(model.name)}", "")
    yield from ("| texts | metric | value | 95 % interval | n |", "|---|---|---|---|---|")
    for each in found:
        interval = "" if each.low is None else f"{each.low:.4g} to {each.high:.4g}"
        n = "" if each.n is None else str(each.n)
        texts = _plain(names.get(each.text_set, each.text_set))
        yield f"| {texts} | `{each.name}` | {each.value:.4g} | {interval} | {n} |"


def _plain(text: str) -> str:
    """A client's words as one line of Markdown in which nothing is markup."""
    return " ".join(text.split()).translate(_SPECIAL)


FORMAT = EvidenceFormat(
    name="model-card",
    title="Section of a model card",
    media_type="text/markdown; charset=utf-8",
    suffix="model-card.md",
    render=render,
)
