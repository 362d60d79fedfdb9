"""What a report says of an edit."""

from collections.abc import Iterator
from typing import Any, Final

from app import plots
from app.contracts.edit_methods.kfac import KFACReceipt
from app.contracts.edits import EditSpec
from app.contracts.results.evaluations import Check, Evaluation, Measured, TaskChange
from app.contracts.results.receipts import Receipt
from app.contracts.texts import TextSetRole
from app.edits.schemas import EditOut
from app.evidence.record import EvidenceRecord, ModelRole
from app.evidence.report.account import Account, described
from app.evidence.report.document import NUMBER, Block, Figure, Heading, Paragraph, Table, Verdict
from app.evidence.report.frontier import what_was_tried
from app.evidence.report.numbers import (
    NOTHING,
    Row,
    facts_table,
    interval,
    listed,
    number,
    numbers_table,
    percent,
    rows_in,
    rows_of,
    value_of,
    with_interval,
)
from app.evidence.report.proof import proof_tables

_METHODS: Final = {"kfac": "K-FAC", "balanced_subnet": "BalancedSubnet", "svd": "truncated SVD"}
_ROLES: Final = {
    TextSetRole.RETAIN: "retained texts",
    TextSetRole.MEMORIZED: "memorized texts",
    TextSetRole.UNSEEN: "memorized texts that the method never saw",
    TextSetRole.CLEAN: "clean text",
    TextSetRole.CONTROL: "texts never inserted",
}
_ORDER: Final = tuple(TextSetRole)
# The least texts of a set that a report does not call few.
_FEW: Final = 30


def edit_account(record: EvidenceRecord, edit: EditOut) -> Account:
    """What is told of an edit that has succeeded."""
    evaluation, receipt = edit.evaluation, edit.receipt
    assert evaluation is not None
    assert receipt is not None
    base = next(model for model in record.models if model.role is ModelRole.BASE)
    method = _METHODS.get(edit.method, edit.method)
    return Account(
        title=f"Edit \u201c{edit.name}\u201d of {base.name}",
        question=f"What has the language model {described(base)} forgotten by an edit with {method}, and "
        "what has it kept?",
        short=tuple(_short(evaluation)),
        judged=tuple(_judged(evaluation)),
        numbers=(*_numbers(evaluation), *_receipt(edit, receipt)),
        figures=tuple(_figures(edit, evaluation, receipt)),
        limits=(*(warning.detail for warning in edit.warnings), *_limits(evaluation)),
        path="/v1/edits",
        request=_request(edit),
    )


def _short(evaluation: Evaluation) -> Iterator[str]:
    for role, measured in evaluation.sets.items():
        before, after = measured.strict.before, measured.strict.after
        if role in {TextSetRole.MEMORIZED, TextSetRole.UNSEEN} and before is not None and after is not None:
            yield (
                f"Of {before.n:,} {_ROLES[role]}, {before.count:,} were recited exactly before and "
                f"{after.count:,} after: {percent(before.share)} and {with_interval(after)}."
            )
    if evaluation.perplexity_increase is not None:
        yield (
            "Perplexity on clean text changed by "
            f"{with_interval(evaluation.perplexity_increase, share=True)}."
        )


def _judged(evaluation: Evaluation) -> Iterator[Block]:
    verdict = evaluation.verdict
    if not verdict.checks:
        return
    yield Heading("Limits that came with the edit")
    outcome = verdict.outcome or ("none" if verdict.passed is None else "pass" if verdict.passed else "fail")
    yield Verdict(outcome, "The edited language model against the limits of the request.")
    yield Table(
        caption="Limits of the request",
        header=("limit", "asked for", "measured", "95 % interval", "n", "outcome"),
        columns=("text", "number", "number", "number", "number", "text"),
        rows=tuple(_check(check) for check in verdict.checks),
    )


def _check(check: Check) -> tuple[str, ...]:
    between = NOTHING if check.low is None else f"[{number(check.low)}, {number(check.high)}]"
    outcome = check.outcome or NOTHING
    return (
        check.name.replace("_", " ").replace(":", ": "),
        number(check.limit),
        number(check.value),
        between,
        number(check.n),
        outcome,
    )


def _numbers(evaluation: Evaluation) -> Iterator[Block]:
    rows: list[Row] = []
    if evaluation.perplexity_increase is not None:
        found = evaluation.perplexity_increase
        rows.append(
            (
                "increase of perplexity on clean text",
                value_of(found, share=True),
                interval(found, share=True),
                number(found.n),
            )
        )
    rows += rows_of(evaluation.ndcg, "nDCG@10 of next tokens against the base")
    if rows:
        yield numbers_table("Utility", rows)
    yield from proof_tables(evaluation)
    if evaluation.items:
        yield numbers_table("Questions answered rightly", rows_in(evaluation.items))
    if evaluation.tasks:
        yield numbers_table("Questions answered rightly, by task", rows_in(evaluation.tasks))


def _receipt(edit: EditOut, receipt: Receipt) -> Iterator[Block]:
    yield facts_table(
        "How the edit was made",
        [
            ("method", _METHODS.get(edit.method, edit.method)),
            *((row[0], row[1]) for row in rows_in(getattr(receipt, "parameters", {}))),
            ("seed", number(receipt.seed)),
            ("weights in memory", f"{receipt.dtype} on {receipt.device}"),
            ("wall time, seconds", number(receipt.wall_seconds)),
            ("peak memory, MiB", number(receipt.peak_memory_bytes / 2**20)),
        ],
    )
    matrices = getattr(receipt, "matrices", [])
    if matrices:
        own = [field for field in type(matrices[0]).model_fields if field not in _MATRIX_FIELDS]
        yield Table(
            caption="Edited matrices",
            header=("projection", "shape", *(field.replace("_", " ") for field in own)),
            columns=("code", "number", *(NUMBER for _ in own)),
            rows=tuple(
                (
                    matrix.projection,
                    " \u00d7 ".join(map(str, matrix.shape)),
                    *(number(getattr(matrix, field)) for field in own),
                )
                for matrix in matrices
            ),
        )


_MATRIX_FIELDS: Final = frozenset(
    {"projection", "layer", "role", "shape", "spectrum", "convergence", "retain_convergence"}
)


def _figures(edit: EditOut, evaluation: Evaluation, receipt: Receipt) -> Iterator[Block]:
    sets = evaluation.sets
    drawn = [plots.before_after(sets), plots.before_after(sets, "nl")]
    if drawings := tuple(drawing for drawing in drawn if drawing is not None):
        yield Figure(drawings, _sets_table(sets))
    if evaluation.tasks and (drawing := plots.spectrum_bars(evaluation.tasks)) is not None:
        yield Figure((drawing,), _tasks_table(evaluation.tasks))
    yield from what_was_tried(edit)
    if isinstance(receipt, KFACReceipt) and (drawing := plots.spectrum(receipt.matrices)) is not None:
        yield Figure((drawing,), _kept_table(receipt))
        if not any(matrix.spectrum for matrix in receipt.matrices):
            yield Paragraph(
                "The receipt holds no spectrum: the release that made this edit kept only the cut."
            )


def _tasks_table(tasks: list[TaskChange]) -> Table:
    return Table(
        caption="Questions answered rightly",
        header=("task", "before", "after", "kept", "n"),
        columns=("text", "number", "number", "number", "number"),
        rows=tuple(
            (
                each.task or NOTHING,
                with_interval(each.before),
                with_interval(each.after),
                with_interval(each.kept, share=True),
                number(each.n),
            )
            for each in tasks
        ),
    )


def _sets_table(sets: dict[TextSetRole, Measured]) -> Table:
    rows = []
    for role, measured in sorted(sets.items(), key=lambda item: _ORDER.index(item[0])):
        for when in ("before", "after"):
            strict, likelihood = getattr(measured.strict, when), getattr(measured.nl, when)
            perplexity = getattr(measured.perplexity, when)
            rows.append(
                (
                    f"{_ROLES.get(role, role)}, {when}",
                    number(measured.texts),
                    with_interval(strict),
                    with_interval(likelihood),
                    number(perplexity),
                )
            )
    return Table(
        caption="Text sets before and after",
        header=("texts", "n", "recited exactly", "mean NL", "perplexity"),
        columns=("text", "number", "number", "number", "number"),
        rows=tuple(rows),
    )


def _kept_table(receipt: KFACReceipt) -> Table:
    return Table(
        caption="What was kept of each matrix",
        header=("matrix", "curvature mass", "directions"),
        columns=("text", "number", "number"),
        rows=tuple(
            (
                f"layer {matrix.layer} {matrix.role}",
                percent(matrix.kept_mass),
                f"{matrix.kept_pairs:,} of {matrix.pairs:,}",
            )
            for matrix in receipt.matrices
        ),
    )


def _limits(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.stress is None:
        yield "How the edit stands changed prompts, other number formats or a fine-tune was not asked for."
    if TextSetRole.UNSEEN not in evaluation.sets:
        yield (
            "Whether texts that the method never saw are forgotten too is not known: without a set of "
            "such texts nothing tells forgetting from hiding these very texts."
        )
    if TextSetRole.CONTROL not in evaluation.sets:
        yield (
            "Whether texts never inserted became less likely is not known, nor whether the model now avoids "
            "the others: none were given."
        )
    avoided = [
        change
        for by_score in (evaluation.membership or {}).values()
        for change in by_score.values()
        if change.over_forgotten
    ]
    if any(change.reference is not None for change in avoided):
        yield "The model clearly avoids texts, and so gives them away as one that recites them does."
    elif avoided:
        yield (
            "The model finds texts less likely than those never inserted. Whether it avoids them, and so "
            "gives them away, or models that never saw them do too, is not known without a reference model."
        )
    if evaluation.perplexity_increase is None:
        yield "What the edit cost is not known: there was no clean text."
    else:
        yield "What it cost on tasks is not known: perplexity and next tokens say little of single skills."
    few = [
        f"{measured.texts} {_ROLES.get(role, role)}"
        for role, measured in evaluation.sets.items()
        if measured.texts < _FEW
    ]
    if few:
        yield f"Few texts show little: {listed(few)} give wide intervals."


def _request(edit: EditOut) -> dict[str, Any]:
    """What differs from the defaults: a method refuses the options of others even at their defaults."""
    spec = EditSpec.model_validate({**edit.spec, "method": edit.method})
    body = {
        "model": edit.model,
        "name": edit.name,
        "calibration_text_set": edit.text_sets.get(TextSetRole.CALIBRATION),
        "retain_text_set": edit.text_sets.get(TextSetRole.RETAIN),
        "forget_text_set": edit.text_sets.get(TextSetRole.FORGET),
        "policy": edit.preregistration and edit.preregistration.policy,
        **spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True),
    }
    return {name: value for name, value in body.items() if value is not None}
