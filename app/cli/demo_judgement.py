"""What the demo makes of its numbers: a study of both models, verdicts on texts, decisions of a policy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from app.cli.demo_edit import METRICS, PREFIX_TOKEN, ended, store
from app.cli.following import progress_bars
from memaudit import Client
from memaudit.types import Audit, Gate, Study

# One of 306 texts recited shows a rate of at most 1.6 % with 95 % confidence; two of them are too many.
_POLICY: Final[Any] = {
    "name": "demo: hardly a text is recited",
    "rules": [{"kind": "rate", "metric": "strict", "at_most": 0.02, "confidence": 0.95}],
}


def compare(client: Client, audits: Mapping[str, Audit], screen: Console) -> Study:
    """Compare the audited models text by text, and say how much more is recited under the second."""
    earlier, later = audits
    asked = client.studies.create(
        name="demo",
        kind="pair",
        text_set=audits[earlier].text_set,
        models=[{"model": audit.model, "label": name} for name, audit in audits.items()],
        metrics=METRICS,
        options={"prefix_token": PREFIX_TOKEN},
    )
    with progress_bars(Console(stderr=True)) as progress:
        study = ended(client.studies, asked, progress, "Comparing both models")
    compared = study.result.comparisons[0].levels[0].transitions if study.result else None
    if compared:
        screen.print(
            f"Texts recited by the {later} model alone: {compared.gained}, by the {earlier} one alone: "
            f"{compared.lost} (McNemar p = {compared.p_value:.2g})."
        )
    return study


def give_verdicts(client: Client, suite: Path, audit: Audit, screen: Console) -> Audit:
    """Judge each inserted text by those that were never inserted, and say how many are memorized."""
    records = [json.loads(line) for line in (suite / "texts.jsonl").read_text().splitlines()]
    inserted = [record for record in records if record["duplicates"]]
    others = [record for record in records if not record["duplicates"]]
    asked = client.audits.create(
        model=audit.model,
        text_set=store(client, "inserted", inserted),
        control_text_set=store(client, "never inserted", others),
        metrics=METRICS,
        options={"prefix_token": PREFIX_TOKEN},
    )
    with progress_bars(Console(stderr=True)) as progress:
        judged = ended(client.audits, asked, progress, "Judging the inserted texts")
    found = judged.summary.calibration if judged.summary else None
    if found:
        screen.print(
            f"Of {len(inserted)} inserted texts {found.verdicts.memorized} are shown to be memorized "
            f"(false discovery rate {found.fdr:g}), among {found.n_controls} that were never inserted."
        )
        if found.reason:
            screen.print(f"No text has a verdict: {found.reason.replace('_', ' ')}.")
    return judged


def decide(client: Client, audits: Mapping[str, Audit], screen: Console) -> dict[str, Gate]:
    """Let one policy judge each audit, and show what it decides; the gates by name."""
    policy = client.policies.create(**_POLICY)
    gates: dict[str, Gate] = {}
    with progress_bars(Console(stderr=True)) as progress:
        for name, audit in audits.items():
            asked = client.gates.create(policy=policy.id, audit=audit.id)
            gates[name] = ended(client.gates, asked, progress, f"Judging the {name} model")
    table = Table(title=f"Gate: {policy.name} (at most 2 %, 95 % confidence)")
    for heading in ("model", "outcome", "observed"):
        table.add_column(heading)
    for name, gate in gates.items():
        table.add_row(name, gate.outcome, gate.rules[0].statement)
    screen.print(table)
    return gates
