"""What a report says of gates: each policy's verdict and the reasons of its rules."""

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Final

from app.contracts.results.gates import RuleOutcome
from app.contracts.results.reasons import REASONS
from app.evidence.record import RecordedGate
from app.evidence.report.document import Block, Bullets, Heading, Paragraph, Table, Verdict
from app.evidence.report.numbers import NOTHING, counted, exact_percent, number

# Deciding texts that a report names; the gate itself names more.
_MOST_NAMED: Final = 8


def verdict(gates: Sequence[RecordedGate], short: Sequence[str], judged: Sequence[Block]) -> Iterator[Block]:
    """The verdict of each gate that was decided, what the work itself was judged by, and what was found.

    Args:
        gates: that were decided on the work.
        short: what was found, a sentence each.
        judged: how the work was judged apart from gates; empty if it was not.
    """
    for gate in gates:
        yield from _gate(gate)
    yield from judged
    if not gates and not judged:
        yield Verdict("none", "No verdict was asked for: no policy was applied to this work.")
    yield Heading("What was found, in short")
    yield Bullets(tuple(short)) if short else Paragraph("Nothing that a sentence could say; see the numbers.")


def gate_limits(gates: Sequence[RecordedGate]) -> Iterator[str]:
    """What gates leave open."""
    if gates:
        yield "A pass says that the limits of the policy are kept, and nothing of what no rule asks."
    open_ = sum(rule.outcome == "inconclusive" for each in gates for rule in each.gate.rules)
    if open_:
        yield f"Whether {counted(open_, 'rule')} would be kept is not known: see the reasons above."


def _gate(recorded: RecordedGate) -> Iterator[Block]:
    gate = recorded.gate
    assert gate.outcome is not None
    yield Heading(f"Policy \u201c{gate.policy_name}\u201d, version {gate.policy_version}")
    failed = sum(rule.outcome == "fail" for rule in gate.rules)
    open_ = sum(rule.outcome == "inconclusive" for rule in gate.rules)
    yield Verdict(
        gate.outcome,
        f"Of {counted(len(gate.rules), 'rule')}, {failed} failed and {open_} could not be decided.",
    )
    if recorded.policy.description:
        yield Paragraph(recorded.policy.description)
    yield Paragraph(_registered(recorded))
    yield Bullets(tuple(_told(place, rule) for place, rule in enumerate(gate.rules, start=1)))
    yield Table(
        caption=f"Rules of {gate.policy_name}, gate {gate.id}",
        header=("rule", "outcome", "observed", "interval", "limit", "n"),
        columns=("text", "text", "number", "number", "number", "number"),
        rows=tuple(_row(place, rule) for place, rule in enumerate(gate.rules, start=1)),
    )


def _registered(recorded: RecordedGate) -> str:
    written = recorded.preregistration
    if written is None:
        return "Not preregistered: the policy was not named when the work was asked for."
    texts = (
        f", and that of the texts, {written.text_set_hmac_sha256}," if written.text_set_hmac_sha256 else ""
    )
    return (
        "Preregistered: the policy was named when the work was asked for. Its digest, "
        f"{written.policy_sha256}{texts} was recorded at "
        f"{written.registered_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, before the first score."
    )


def _told(place: int, rule: RuleOutcome) -> str:
    """A rule's outcome with its reasons and the texts that decided it."""
    told = f"{place}. {rule.outcome}: {rule.statement}"
    if rule.reason is not None:
        told += f" Not decided: {REASONS[rule.reason]}"
    told = told.replace("`", "")
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
        between += f" at {exact_percent(observed.confidence)}" if observed.confidence else ""
    return (
        f"{place}. {rule.rule.kind.replace('_', ' ')}",
        rule.outcome,
        number(observed.value),
        between,
        number(rule.limit),
        number(observed.n),
    )
