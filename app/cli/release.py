"""`memaudit release`: register a version of a model line, and exit with what its gates decide."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.failures import ExitStatus, explained, fail
from app.cli.following import follow_with_progress, progress_bars
from app.cli.gate import STATUSES, GateStatus, undecided
from app.cli.model_choice import find_model, require_nameable
from app.cli.output import JSONFlag, print_json
from app.cli.service import URLOption, client_at
from memaudit import Client
from memaudit.types import ModelVersion


def release(
    *,
    line: Annotated[str, typer.Option(help="The name of a model line.")],
    label: Annotated[str, typer.Option(help="What the version is called.")],
    model: Annotated[
        str,
        typer.Option(
            help="A directory, an id `mdl_…`, an edited model `tenant/name` of the service, or a hub "
            "repository `org/name` or `org/name@revision`."
        ),
    ],
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Register a version of a model line, wait until all its gates have decided, and print them.

    The exit status is 0 for pass, 1 for fail and 2 for inconclusive; 3 when the service cannot be reached,
    and 4 when nothing was decided for another reason, such as a model that was rejected or a line without
    policies.
    """
    screen = Console(stderr=True)
    with undecided(), explained():
        require_nameable(model)
        with client_at(url) as client:
            line_id = _find_line(client, line)
            found, words = find_model(client, model)
            screen.print(f"Releasing {words}", markup=False, highlight=False, soft_wrap=True)
            accepted = client.model_lines.register(line_id, model=found, label=label)
            screen.print(f"Version {accepted.id}")
            with progress_bars(screen) as progress:
                ended = follow_with_progress(client.model_versions, accepted.id, progress, "Scoring texts")
        if as_json:
            print_json(ended)
        if ended.status != "succeeded":
            why = f": {ended.error.detail}" if ended.error else ""
            raise fail(f"the version {ended.status}{why}", ExitStatus.FAILED)
    if not as_json:
        Console().print(_table(ended))
    raise typer.Exit(STATUSES.get(ended.outcome or "", GateStatus.UNDECIDED))


def _find_line(client: Client, name: str) -> str:
    line = next(client.model_lines.list(name=name, page_size=1), None)
    if line is None:
        raise fail(f"there is no model line {name}; POST /v1/model-lines makes one", ExitStatus.USAGE)
    return line.id


def _table(version: ModelVersion) -> Table:
    """Each gate, what it judged and what it decided."""
    table = Table(title=f"{version.outcome or 'nothing to decide'}: {version.label} ({version.id})")
    for heading in ("policy", "judges", "outcome", "gate"):
        table.add_column(heading)
    for each in version.gates:
        policy = f"{each.policy_name} version {each.policy_version}"
        table.add_row(policy, each.subject, each.outcome, each.gate)
    return table
