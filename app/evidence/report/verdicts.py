"""What a report says of gates: each policy's verdict and the reasons of its rules."""

from collections.abc import Iterator, Sequence
from typing import Final

from app.contracts.results.gates import RuleOutcome
from app.evidence.report.document import Block, Bullets, Heading, Paragraph, Table, Verdict
from app.evidence.report.numbers import NOTHING, counted, number
from app.gates.schemas import GateOut

_REASONS: Final = {
    "not_measured": "it was not measured",
    "no_texts": "there is no text that it is about",
    "no_labels": "no texts are known to be members, or not to be",
    "no_interval": "the numbers have no interval",
    "uncalibrated": "the texts could not be compared with controls",
    "too_few_controls": "the controls are too few for any text to stand out",
    "too_few_texts": "the texts are too few for the confidence that is asked for",
    "texts_unmeasured": "some texts could not be measured",
    "texts_undecided": "the limit lies within the interval of some texts",
    "interval_spans_limit": "the interval holds the limit: the texts are too few to tell",
}
# Deciding texts that a report names; the gate itself names more.
_MOST_NAMED: Final = 20


def verdict(gates: Sequence[GateOut], short: Sequence[str], judged: Sequence[Block]) -> Iterator[Block]:
    """The verdict of each gate that was decided, what the work itself was judged by, and what was found.

    Args:
        gates: on the work.
        short: what was found, a sentence each.
        judged: how the work was judged apart from gates; empty if it was not.
    """
    decided = [gate for gate in gates if gate.outcome is not None]
    for gate in decided:
        yield from _gate(gate)
    yield from judged
    if not decided and not judged:
        yield Verdict("none", "No verdict was asked for: no policy was applied to this work.")
    yield Heading("What was found, in short")
    yield Bullets(tuple(short)) if short else Paragraph("Nothing that a sentence could say; see the numbers.")


def _gate(gate: GateOut) -> Iterator[Block]:
    assert gate.outcome is not None
    yield Heading(f"Policy \u201c{gate.policy_name}\u201d, version {gate.policy_version}")
    failed = sum(rule.outcome == "fail" for rule in gate.rules)
    open_ = sum(rule.outcome == "inconclusive" for rule in gate.rules)
    yield Verdict(
        gate.outcome,
        f"Of {counted(len(gate.rules), 'rule')}, {failed} failed and {open_} could not be decided.",
    )
    yield Paragraph(
        "The policy was named when the work was asked for, before the first score: it was preregistered."
        if gate.preregistered
        else "The policy was not named when the work was asked for: it was not preregistered."
    )
    yield Bullets(tuple(_told(place, rule) for place, rule in enumerate(gate.rules, start=1)))
    yield Table(
        caption=f"Rules of {gate.policy_name}, gate {gate.id}",
        header=("rule", "outcome", "observed", "interval", "limit", "n"),
        columns=("text", "text", "number", "number", "number", "number"),
        rows=tuple(_row(place, rule) for place, rule in enumerate(gate.rules, start=1)),
    )


def _told(place: int, rule: RuleOutcome) -> str:
    """A rule's outcome with its reasons and the texts that decided it."""
    told = f"{place}. {rule.outcome}: {rule.statement.replace('`', '')}"
    if rule.reason is not None:
        told += f" Not decided, as {_REASONS[rule.reason]}."
    if rule.deciding_texts:
        named = rule.deciding_texts[:_MOST_NAMED]
        more = f" and {rule.deciding_count - len(named):,} more" if rule.deciding_count > len(named) else ""
        told += f" Decided by {', '.join(named)}{more}."
    return told


def _row(place: int, rule: RuleOutcome) -> tuple[str, ...]:
    observed = rule.observed
    between = NOTHING
    if observed.low is not None and observed.high is not None:
        between = f"[{number(observed.low)}, {number(observed.high)}]"
        between += f" at {observed.confidence:.0%}" if observed.confidence else ""
    return (
        f"{place}. {rule.rule.kind.replace('_', ' ')}",
        rule.outcome,
        number(observed.value),
        between,
        number(rule.limit),
        number(observed.n),
    )
