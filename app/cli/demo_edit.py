"""The demo's second half: edit the model that memorized, prove it, pull the artifact and audit that."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli.failures import ExitStatus, fail
from app.cli.following import W, follow_with_progress, progress_bars
from app.cli.intervals import mean_cell, number_cell, share_cell
from app.cli.pull import pull_artifact
from memaudit import Client
from memaudit.requests import Limits
from memaudit.synchronous.resources import Operations
from memaudit.types import Audit, Check, Edit, Evaluation, KFACReceipt, MeanInterval, ShareChange

METRICS: Final[list[Literal["nl", "extraction", "p_z"]]] = ["nl", "extraction", "p_z"]
# Of about eight texts each, seen and unseen, none recited shows a share of at most 0.35 (0.05 would take 72).
LIMITS: Final[Limits] = {"max_strict": 0.5, "max_perplexity_increase": 0.15}
# In training every document of a suite comes after EOS, which its tokenizer does not add by itself.
PREFIX_TOKEN: Final = "eos"  # noqa: S105 - a token of the vocabulary
_ROLES: Final = ("memorized", "unseen", "control", "clean")


@dataclass(frozen=True)
class Proof:
    """What the edit came to.

    Attributes:
        edit: that succeeded.
        directory: where the edited model was pulled to.
        audit: of the pulled model, on the texts of the first audit.
    """

    edit: Edit
    directory: Path
    audit: Audit


def upload(client: Client, texts: Path) -> str:
    """Store a text set of the suite; its id."""
    return client.text_sets.upload(texts, name=f"{texts.parent.name} {texts.stem}").id


def ended(operations: Operations[W], work: W, progress: Progress, description: str) -> W:
    """Follow an audit or edit to its end, which must be success."""
    result = follow_with_progress(operations, work.id, progress, description)
    if result.status != "succeeded":
        why = result.error.detail if result.error else ""
        raise fail(f"{description}: {result.status}. {why}", ExitStatus.FAILED)
    return result


def edit_and_audit_again(client: Client, suite: Path, audit: Audit, screen: Console) -> Proof:
    """Request a K-FAC edit of an audited model, print what changed, pull the artifact and audit it.

    Half of the recited texts aim the search; the other half is never shown to it.
    """
    edit = _edit(client, suite, audit)
    if edit.evaluation is not None:
        screen.print(before_and_after(edit, edit.evaluation))
        screen.print(_verdict(edit, edit.evaluation))
    pulled = suite.parent / f"{suite.name}-edited"
    shutil.rmtree(pulled, ignore_errors=True)
    pull_artifact(client, edit.artifact or "", pulled)
    again = client.audits.create(
        model={"type": "path", "path": os.fspath(pulled)},
        text_set=audit.text_set,
        metrics=METRICS,
        options={"prefix_token": PREFIX_TOKEN},
    )
    with progress_bars(Console(stderr=True)) as progress:
        after = ended(client.audits, again, progress, "Auditing the pulled model")
    was, now = (len(_recited(client, result)) for result in (audit, after))
    screen.print(
        f"The edited model is in {pulled}: of {after.progress.total} texts it recites {now}, "
        f"where the perturbed one recites {was}."
    )
    return Proof(edit, pulled, after)


def _edit(client: Client, suite: Path, audit: Audit) -> Edit:
    records = [json.loads(line) for line in (suite / "texts.jsonl").read_text().splitlines()]
    recited = _recited(client, audit)
    memorized = [record for record in records if record["id"] in recited]
    seen, unseen = _store(client, "seen", memorized[::2]), _store(client, "unseen", memorized[1::2])
    control = _store(client, "control", [record for record in records if record["duplicates"] == 0])
    asked = client.edits.create(
        model=audit.model,
        method="kfac",
        name=f"{suite.name}-edited-{uuid4().hex[:8]}",
        layers="auto",
        calibration_text_set=upload(client, suite / "calibration.jsonl"),
        forget_text_set=seen,
        block_tokens=128,
        evaluation={
            "unseen_text_set": unseen,
            "control_text_set": control,
            "clean_text_set": upload(client, suite / "clean.jsonl"),
            "prefix_token": PREFIX_TOKEN,
            "limits": LIMITS,
        },
    )
    with progress_bars(Console(stderr=True)) as progress:
        return ended(client.edits, asked, progress, "Editing the perturbed model")


def before_and_after(edit: Edit, evaluation: Evaluation) -> Table:
    """What each text set shows of the model before and after the edit."""
    table = Table(title=f"Before→after {edit.method} ({edit.model_repo}) [95 % intervals]")
    table.add_column("texts")
    table.add_column("n", justify="right")
    for heading in ("strict", "loose", "mean NL", "perplexity"):
        table.add_column(heading, justify="right")
    for role in (role for role in _ROLES if role in evaluation.sets):
        measured = evaluation.sets[role]
        shares = [_share_change(share) for share in (measured.strict, measured.loose)]
        nl = _pair(*(each.mean if each else None for each in (measured.nl.before, measured.nl.after)))
        perplexity = _pair(measured.perplexity.before, measured.perplexity.after)
        table.add_row(role, str(measured.texts), *shares, nl, perplexity)
    return table


def _verdict(edit: Edit, evaluation: Evaluation) -> str:
    lines = [
        f"Perplexity {_percent(evaluation.perplexity_increase)}, nDCG@10 {mean_cell(evaluation.ndcg)}.",
        *(
            f"  {check.name} {check.limit:g}: {_measured(check)}: {check.outcome}"
            for check in evaluation.verdict.checks
        ),
        f"Verdict: {evaluation.verdict.outcome}.",
    ]
    if isinstance(edit.receipt, KFACReceipt):
        layers = sorted({matrix.layer for matrix in edit.receipt.matrices})
        kept = edit.receipt.parameters.keep_mass
        lines.insert(0, f"Layers {layers}, {kept:.0%} of the curvature mass kept.")
    return "\n".join(lines)


def _percent(increase: MeanInterval | None) -> str:
    if increase is None:
        return "not measured"
    if increase.low is None or increase.high is None:
        return f"{increase.mean:+.1%}"
    return f"{increase.mean:+.1%} [{increase.low:+.1%}, {increase.high:+.1%}]"


def _measured(check: Check) -> str:
    return "not measured" if check.value is None else number_cell(check.value, check.low, check.high)


def _share_change(share: ShareChange) -> str:
    """A share before, and after with its interval."""
    before, after = share.before, share.after
    return "" if before is None or after is None else f"{before.share:.2f}→{share_cell(after)}"


def _pair(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{before:.2f}→{after:.2f}"


def _recited(client: Client, audit: Audit) -> set[str]:
    """The ids of the texts that an audit found to be recited strictly."""
    scores = client.audits.scores(audit.id)
    return {score.text_id for score in scores if score.extraction and score.extraction.strict}


def _store(client: Client, name: str, records: list[dict[str, Any]]) -> str:
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return client.text_sets.upload(lines, name=name, format="jsonl").id
