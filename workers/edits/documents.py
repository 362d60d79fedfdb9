"""What stands beside the weights of an edited model: its receipt and its model card."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from app.store.lineage import Ancestor
from workers.edits.comparison import AFTER, BEFORE
from workers.edits.inputs import EditInputs

JSONObject = dict[str, Any]

RECEIPT: Final = "receipt.json"
MODEL_CARD: Final = "README.md"
# What would be markup within the words of an image.
_MARKUP: Final = re.compile(r"[\\`*_\[\]<>&]")
# What a card says is held of suffixes, and how it calls it.
_HELD: Final = {"extraction_strength": "extraction strength", "exact_memorization": "exact memorization"}


def write_receipt_and_card(
    inputs: EditInputs,
    receipt: JSONObject,
    evaluation: JSONObject,
    figures: Mapping[str, str],
    target: Path,
) -> None:
    """Write the receipt and the model card beside the weights."""
    (target / RECEIPT).write_text(json.dumps(receipt | {"evaluation": evaluation}, indent=2) + "\n")
    (target / MODEL_CARD).write_text(model_card(inputs, receipt, evaluation, figures))


def model_card(
    inputs: EditInputs, receipt: JSONObject, evaluation: JSONObject, figures: Mapping[str, str]
) -> str:
    """The card of an edited model, in Hugging Face's form: lineage, method, the proof and its limits.

    The metadata names a base only if it is a hub's: what hubs would make of other names is not the base.

    Args:
        inputs: the edit.
        receipt: how it was made.
        evaluation: what it changed.
        figures: what each shows, in words, by its path beside the card.
    """
    base = inputs.lineage[0]
    lines = [
        "---",
        *_base_metadata(inputs.lineage),
        "library_name: transformers",
        "tags: [memaudit, memorization, edited]",
        "---",
        "",
        f"# {inputs.name}",
        "",
        f"Derived from {_named(base)} by memaudit with the method `{receipt['method']}`, to recite less.",
        f"The base's digest is `{receipt['base']['digest']}`.",
        *_ancestry(inputs.lineage[1:]),
        "",
        "## Parameters",
        "",
        *_parameters(receipt),
        "",
        "## Before and after",
        "",
        *_table(evaluation),
        "",
        *_figures(figures),
        *_verdict(evaluation["verdict"]),
        "## Limits",
        "",
        *(f"- {warning['detail']}" for warning in receipt["warnings"]),
        "- The numbers hold for the texts that were measured. Other memories may remain.",
        "- Memories may resurface: after further training, under quantisation, or with other prompts.",
        "- Knowledge that resembles memorization suffers first: closed-book facts and arithmetic.",
        f"- The full receipt is in `{RECEIPT}`.",
    ]
    return "\n".join(lines) + "\n"


def _base_metadata(lineage: Sequence[Ancestor]) -> Sequence[str]:
    """The nearest ancestor on a hub, if there is one."""
    repositories = [ancestor.name for ancestor in lineage if ancestor.source == "hub"]
    if not repositories:
        return []
    return [f"base_model: {repositories[0]}", "base_model_relation: finetune"]


def _ancestry(lineage: Sequence[Ancestor]) -> Sequence[str]:
    return [f"That was derived from {_named(ancestor)}." for ancestor in lineage]


def _named(ancestor: Ancestor) -> str:
    """A name as inline code; the name of a directory may have any character."""
    name = "".join(mark if mark.isprintable() and mark != "`" else "_" for mark in ancestor.name)
    if ancestor.revision is None:
        return f"`{name}`"
    return f"`{name}` at revision `{ancestor.revision}`"


def _parameters(receipt: JSONObject) -> Sequence[str]:
    layers = sorted({matrix["layer"] for matrix in receipt["matrices"]})
    roles = sorted({matrix["role"] for matrix in receipt["matrices"]})
    facts = {"layers": layers, "projections": roles} | receipt["parameters"]
    return [f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items() if value is not None]


def _table(evaluation: JSONObject) -> Sequence[str]:
    rows = [
        "| texts | n | strict | after | loose | after | mean NL | after | perplexity | after |",
        "|---" * 10 + "|",
    ]
    for role, measured in evaluation["sets"].items():
        numbers = [
            _with_interval(measured[name][when], value)
            for name, value in (("strict", "share"), ("loose", "share"), ("nl", "mean"))
            for when in (BEFORE, AFTER)
        ]
        numbers += [_number(measured["perplexity"][when]) for when in (BEFORE, AFTER)]
        rows.append(f"| {role} | {measured['texts']} | {' | '.join(numbers)} |")
    rows += ["", "In brackets: 95 % intervals."]
    if (increase := evaluation["perplexity_increase"]) is not None:
        rows += ["", f"Growth of perplexity on clean text, as a share: {_with_interval(increase, 'mean')}"]
    if (ranking := evaluation["ndcg"]) is not None:
        rows += ["", f"nDCG@10 of next-token rankings on clean text: {_with_interval(ranking, 'mean')}"]
    return rows + _proof(evaluation) + _tasks(evaluation["tasks"] or [])


def _proof(evaluation: JSONObject) -> list[str]:
    """How well texts are told from those never inserted, and what is held of their suffixes, if known."""
    compared = evaluation["reference"] is not None
    rows = [
        _compared(f"{role} | membership AUC by `{score}`", change, "auc", compared=compared)
        for role, by_score in (evaluation["membership"] or {}).items()
        for score, change in by_score.items()
    ]
    held = {} if evaluation["proof"] is None else evaluation["proof"]["held"]
    for role, found in held.items():
        rows += [
            _compared(f"{role} | {name}", found[field], "mean", compared=compared)
            for field, name in _HELD.items()
        ]
    if not rows:
        return []
    header = "| texts | number | before | after | change |" + (" reference |" if compared else "")
    lines = ["", header, "|---" * (5 + compared) + "|", *rows]
    if compared:
        reference = evaluation["reference"]
        lines += ["", f"The reference model never saw the texts; its digest is `{reference['digest']}`."]
    if evaluation["membership"]:
        lines += ["", "An AUC of 0.5 is chance; clearly below it, the model avoids the texts."]
    return lines


def _compared(name: str, found: JSONObject, value: str, *, compared: bool) -> str:
    numbers = [_with_interval(found[when], value) for when in (BEFORE, AFTER)]
    numbers.append(_with_interval(found["change"], "mean"))
    if compared:
        numbers.append(_with_interval(found["reference"], value))
    return f"| {name} | {' | '.join(numbers)} |"


def _tasks(tasks: Sequence[JSONObject]) -> list[str]:
    """How many questions of each task are answered rightly, if any were asked."""
    if not tasks:
        return []
    return [
        "",
        "| questions | n | right | after | kept |",
        "|---" * 5 + "|",
        *(
            f"| {_cell(task['task'])} | {task['n']} | {_with_interval(task[BEFORE], 'share')} "
            f"| {_with_interval(task[AFTER], 'share')} | {_with_interval(task['kept'], 'mean')} |"
            for task in tasks
        ),
    ]


def _cell(name: str | None) -> str:
    """A group's name, which may have any character, as one cell."""
    if name is None:
        return "no group"
    return f"`{''.join(mark if mark.isprintable() and mark not in '|`' else '_' for mark in name)}`"


def _figures(figures: Mapping[str, str]) -> list[str]:
    """Images, each with what it shows in words for those who do not see it."""
    if not figures:
        return []
    shown = [line for path, alt in figures.items() for line in (f"![{_plain(alt)}]({path})", "")]
    return ["## Figures", "", *shown]


def _plain(text: str) -> str:
    """Text on one line that is no markup, whatever groups are named."""
    return _MARKUP.sub(r"\\\g<0>", "".join(mark if mark.isprintable() else "_" for mark in text))


def _verdict(verdict: JSONObject) -> Sequence[str]:
    """The limits that were asked for, if any. One is kept only if the whole interval keeps it."""
    if verdict["outcome"] is None:
        return []
    return [
        "## Verdict",
        "",
        f"`{verdict['outcome']}`. A limit is kept (`pass`) only if the whole interval keeps it, broken",
        "(`fail`) only if the whole interval breaks it, and `inconclusive` where texts are too few, or too",
        "alike, to tell.",
        "",
        "| limit | asked | measured | outcome |",
        "|---" * 4 + "|",
        *map(_check_row, verdict["checks"]),
        "",
    ]


def _check_row(check: JSONObject) -> str:
    measured = _with_interval(check, "value")
    return f"| {check['name']} | {check['limit']:g} | {measured} | {check['outcome']} |"


def _with_interval(interval: JSONObject | None, value: str) -> str:
    if interval is None or interval["low"] is None:
        return _number(None if interval is None else interval[value])
    return f"{interval[value]:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
