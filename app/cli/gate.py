"""`memaudit gate`: let a policy judge an audit, a study or an edit, and exit with what it decides."""

import hashlib
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from app.cli.failures import ExitStatus, explained, fail
from app.cli.following import follow_with_progress, progress_bars
from app.cli.output import JSONFlag, print_json
from app.cli.service import URLOption, client_at
from memaudit import Client
from memaudit.requests import PolicyCreate
from memaudit.types import Gate, RuleOutcome


class GateStatus(IntEnum):
    """What the exit status of this command says: in this one alone, 1 and 2 are decisions."""

    PASS = 0
    FAIL = 1
    INCONCLUSIVE = 2
    UNREACHABLE = 3
    UNDECIDED = 4


STATUSES: Final = {"pass": GateStatus.PASS, "fail": GateStatus.FAIL, "inconclusive": GateStatus.INCONCLUSIVE}


class GateCommand(TyperCommand):
    """A command whose wrong use is no decision."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Read the command line; what is wrong with it ends with the status of what is not decided."""
        try:
            return super().make_context(*arguments, **more)
        except Exception as error:
            if getattr(error, "exit_code", None) == ExitStatus.USAGE:
                vars(error)["exit_code"] = GateStatus.UNDECIDED
            raise


@contextmanager
def undecided() -> Iterator[None]:
    """Turn the status of a failure, a defect included, into that of a gate which was not decided."""
    try:
        yield
    except typer.Exit as ended:
        if ended.exit_code == ExitStatus.UNREACHABLE:
            raise
        raise typer.Exit(GateStatus.UNDECIDED) from ended
    except Exception as error:
        traceback.print_exc()
        raise typer.Exit(GateStatus.UNDECIDED) from error


def gate(
    *,
    policy: Annotated[
        str | None, typer.Option(help="A policy: an id `pol_…`, or a JSON file with `name` and `rules`.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="Instead of a policy, one that ships with the service, by its name.")
    ] = None,
    audit: Annotated[str | None, typer.Option(help="The audit to judge, `aud_…`.")] = None,
    study: Annotated[str | None, typer.Option(help="The study to judge, `std_…`.")] = None,
    edit: Annotated[str | None, typer.Option(help="The edit to judge, `edt_…`.")] = None,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Judge an audit, a study or an edit by a policy, as soon as it has ended.

    The exit status is 0 for pass, 1 for fail and 2 for inconclusive; 3 when the service cannot be reached,
    and 4 when nothing was decided for another reason, such as a wrong command line or an audit that failed.

    A file or a template that was used before, within a week, is the same policy again, and no new version.
    """
    screen = Console(stderr=True)
    with undecided(), explained():
        subject = _subject(audit=audit, study=study, edit=edit)
        given = _policy(policy, template)
        with client_at(url) as client:
            policy_id = given if isinstance(given, str) else _create(client, given)
            accepted = client.gates.create(policy=policy_id, **subject)
            screen.print(f"Gate {accepted.id}")
            with progress_bars(screen) as progress:
                ended = follow_with_progress(client.gates, accepted.id, progress, "Waiting for the decision")
        if as_json:
            print_json(ended)
        if ended.outcome is None:
            why = f": {ended.error.detail}" if ended.error else ""
            raise fail(f"the gate {ended.status}{why}", ExitStatus.FAILED)
    if not as_json:
        Console().print(_table(ended))
    raise typer.Exit(STATUSES.get(ended.outcome, GateStatus.UNDECIDED))


def _subject(**given: str | None) -> dict[str, Any]:
    """The one subject that was given, by its kind."""
    subject = {kind: public_id for kind, public_id in given.items() if public_id is not None}
    if len(subject) != 1:
        raise fail("give one of --audit, --study and --edit", ExitStatus.USAGE)
    return subject


def _policy(policy: str | None, template: str | None) -> str | dict[str, Any]:
    """The id of a policy, or what makes one."""
    if (policy is None) == (template is None):
        raise fail("give either --policy or --template", ExitStatus.USAGE)
    if template is not None:
        return {"template": template}
    assert policy is not None
    if policy.startswith("pol_") and not Path(policy).exists():
        return policy
    try:
        content = json.loads(Path(policy).read_bytes())
    except (OSError, ValueError):
        raise fail(f"{policy} is neither a policy's id nor a readable JSON file", ExitStatus.USAGE) from None
    if not isinstance(content, dict):
        raise fail(f"{policy} holds no JSON object", ExitStatus.USAGE)
    if unknown := sorted(content.keys() - PolicyCreate.__annotations__.keys()):
        raise fail(f"{policy}: a policy has no {', '.join(unknown)}", ExitStatus.USAGE)
    return content


def _create(client: Client, content: dict[str, Any]) -> str:
    """The policy of this content: the same content gives the same key, and that gives the first answer."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return client.policies.create(idempotency_key=f"memaudit-gate-{digest}", **content).id


def _table(gate: Gate) -> Table:
    """Each rule, what became of it and why."""
    table = Table(
        title=f"{gate.outcome}: {gate.policy_name} version {gate.policy_version} on {gate.subject.id}"
    )
    for heading in ("rule", "outcome", "observed", "texts that decide"):
        table.add_column(heading)
    for each in gate.rules:
        reason = f" ({each.reason.replace('_', ' ')})" if each.reason else ""
        kind = each.rule["kind"] if isinstance(each.rule, dict) else each.rule.kind
        table.add_row(kind, each.outcome + reason, each.statement, _deciding(each))
    return table


def _deciding(outcome: RuleOutcome) -> str:
    """A few texts that decided, and how many there are more."""
    shown = outcome.deciding_texts[:3]
    more = outcome.deciding_count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
