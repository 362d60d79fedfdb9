"""The demo's second half: edit the model that memorized, prove it, pull the artifact and audit that."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli.audit import follow_with_progress, progress_bars
from app.cli.client import JSON, ServiceClient
from app.cli.failures import ExitStatus, fail
from app.cli.intervals import mean_cell, share_cell
from app.cli.pull import pull_artifact

METRICS: Final = ["nl", "extraction", "p_z"]
# Of about eight texts each, seen and unseen, none recited shows a share of at most 0.35 (0.05 would take 72).
LIMITS: Final = {"max_strict": 0.5, "max_perplexity_increase": 0.15}
# In training every document of a suite comes after EOS, which its tokenizer does not add by itself.
PREFIX_TOKEN: Final = "eos"  # noqa: S105 - a token of the vocabulary
_ROLES: Final = ("memorized", "unseen", "control", "clean")
_PAGE: Final = 1000


def upload(client: ServiceClient, texts: Path) -> str:
    """Store a text set of the suite; its id."""
    name = f"{texts.parent.name} {texts.stem}"
    text_set_id: str = client.upload_texts(iter([texts.read_bytes()]), "application/jsonl", name)["id"]
    return text_set_id


def ended(client: ServiceClient, work: JSON, progress: Progress, description: str) -> JSON:
    """Follow an audit or edit to its end, which must be success."""
    result = follow_with_progress(client, work, progress, description)
    if result["status"] != "succeeded":
        why = (result["error"] or {}).get("detail", "")
        raise fail(f"{description}: {result['status']}. {why}", ExitStatus.FAILED)
    return result


def edit_and_audit_again(client: ServiceClient, suite: Path, audit: JSON, screen: Console) -> None:
    """Request a K-FAC edit of an audited model, print what changed, pull the artifact and audit it.

    Half of the recited texts aim the search; the other half is never shown to it.
    """
    records = [json.loads(line) for line in (suite / "texts.jsonl").read_text().splitlines()]
    recited = _recited(client, audit)
    memorized = [record for record in records if record["id"] in recited]
    seen, unseen = _store(client, "seen", memorized[::2]), _store(client, "unseen", memorized[1::2])
    control = _store(client, "control", [record for record in records if record["duplicates"] == 0])
    body = {
        "model": audit["model"],
        "method": "kfac",
        "name": f"{suite.name}-edited-{uuid4().hex[:8]}",
        "layers": "auto",
        "calibration_text_set": upload(client, suite / "calibration.jsonl"),
        "forget_text_set": seen,
        "block_tokens": 128,
        "evaluation": {
            "unseen_text_set": unseen,
            "control_text_set": control,
            "clean_text_set": upload(client, suite / "clean.jsonl"),
            "prefix_token": PREFIX_TOKEN,
            "limits": LIMITS,
        },
    }
    with progress_bars(Console(stderr=True)) as progress:
        edit = ended(client, client.request_edit(body), progress, "Editing the perturbed model")
    screen.print(before_and_after(edit))
    screen.print(_verdict(edit))
    pulled = suite.parent / f"{suite.name}-edited"
    shutil.rmtree(pulled, ignore_errors=True)
    pull_artifact(client, edit["artifact"], pulled)
    again = client.request_audit(
        {
            "model": {"type": "path", "path": os.fspath(pulled)},
            "text_set": audit["text_set"],
            "metrics": METRICS,
            "options": {"prefix_token": PREFIX_TOKEN},
        }
    )
    with progress_bars(Console(stderr=True)) as progress:
        after = ended(client, again, progress, "Auditing the pulled model")
    was, now = (len(_recited(client, result)) for result in (audit, after))
    screen.print(
        f"The edited model is in {pulled}: of {after['summary']['texts']} texts it recites {now}, "
        f"where the perturbed one recites {was}."
    )


def before_and_after(edit: JSON) -> Table:
    """What each text set shows of the model before and after the edit."""
    table = Table(title=f"Before→after {edit['method']} ({edit['model_repo']}) [95 % intervals]")
    table.add_column("texts")
    table.add_column("n", justify="right")
    for heading in ("strict", "loose", "mean NL", "perplexity"):
        table.add_column(heading, justify="right")
    sets = edit["evaluation"]["sets"]
    for role in (role for role in _ROLES if role in sets):
        measured = sets[role]
        shares = [_share_change(measured[number]) for number in ("strict", "loose")]
        means = {when: nl and nl["mean"] for when, nl in measured["nl"].items()}
        table.add_row(role, str(measured["texts"]), *shares, _pair(means), _pair(measured["perplexity"]))
    return table


def _verdict(edit: JSON) -> str:
    evaluation: dict[str, Any] = edit["evaluation"]
    chosen = edit["receipt"]["parameters"]["keep_mass"]
    layers = sorted({matrix["layer"] for matrix in edit["receipt"]["matrices"]})
    increase, ranking = _percent(evaluation["perplexity_increase"]), mean_cell(evaluation["ndcg"])
    lines = [
        f"Layers {layers}, {chosen:.0%} of the curvature mass kept.",
        f"Perplexity {increase}, nDCG@10 {ranking}.",
        *(
            f"  {check['name']} {check['limit']:g}: {_measured(check)}: {check['outcome']}"
            for check in evaluation["verdict"]["checks"]
        ),
        f"Verdict: {evaluation['verdict']['outcome']}.",
    ]
    return "\n".join(lines)


def _percent(increase: JSON) -> str:
    if increase["low"] is None:
        return f"{increase['mean']:+.1%}"
    return f"{increase['mean']:+.1%} [{increase['low']:+.1%}, {increase['high']:+.1%}]"


def _measured(check: JSON) -> str:
    return "not measured" if check["value"] is None else mean_cell(check | {"mean": check["value"]})


def _share_change(share: JSON) -> str:
    """A share before, and after with its interval."""
    before, after = share["before"], share["after"]
    return "" if before is None or after is None else f"{before['share']:.2f}→{share_cell(after)}"


def _pair(number: dict[str, float | None]) -> str:
    before, after = number["before"], number["after"]
    return "" if before is None or after is None else f"{before:.2f}→{after:.2f}"


def _recited(client: ServiceClient, audit: JSON) -> set[str]:
    """The ids of the texts that an audit found to be recited strictly."""
    found: set[str] = set()
    parameters = {"limit": str(_PAGE)}
    while True:
        page = client.read(f"/v1/audits/{audit['id']}/scores", parameters)
        found |= {row["text_id"] for row in page["data"] if row["extraction"]["strict"]}
        if not page["has_more"]:
            return found
        parameters["cursor"] = page["next_cursor"]


def _store(client: ServiceClient, name: str, records: list[JSON]) -> str:
    lines = (json.dumps(record).encode() + b"\n" for record in records)
    text_set_id: str = client.upload_texts(lines, "application/jsonl", name)["id"]
    return text_set_id
