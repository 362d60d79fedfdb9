"""`memaudit gate`: let a policy judge an audit, a study or an edit, and exit with what it decides."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from app.cli.audit import follow_with_progress, owner_key, progress_bars
from app.cli.client import JSON, ServiceClient
from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.embedded.programs import local_url

POLICIES: Final = "/v1/policies"


class GateStatus(IntEnum):
    """What the exit status of this command says: in this one alone, 1 and 2 are decisions."""

    PASS = 0
    FAIL = 1
    INCONCLUSIVE = 2
    UNREACHABLE = 3
    UNDECIDED = 4


_STATUSES: Final = {"pass": GateStatus.PASS, "fail": GateStatus.FAIL, "inconclusive": GateStatus.INCONCLUSIVE}


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
    """Turn the status of a failure into that of a gate which was not decided."""
    try:
        yield
    except typer.Exit as ended:
        if ended.exit_code == ExitStatus.UNREACHABLE:
            raise
        raise typer.Exit(GateStatus.UNDECIDED) from ended


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
    url: Annotated[
        str | None, typer.Option(envvar="MEMAUDIT_URL", help="The service; default: this machine's.")
    ] = None,
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
        settings = find_settings()
        with ServiceClient(url or local_url(settings), owner_key(settings)) as client:
            policy_id = given if isinstance(given, str) else _create(client, given)
            accepted = client.request_gate({"policy": policy_id, **subject})
            screen.print(f"Gate {accepted['id']}")
            with progress_bars(screen) as progress:
                ended = follow_with_progress(client, accepted, progress, "Waiting for the decision")
        if as_json:
            print_json(ended)
        if ended["status"] != "succeeded":
            error = ended.get("error")
            why = f": {error['detail']}" if error else ""
            raise fail(f"the gate {ended['status']}{why}", ExitStatus.FAILED)
    if not as_json:
        Console().print(_table(ended))
    raise typer.Exit(_STATUSES[ended["outcome"]])


def _subject(**given: str | None) -> dict[str, str]:
    """The one subject that was given, by its kind."""
    subject = {kind: public_id for kind, public_id in given.items() if public_id is not None}
    if len(subject) != 1:
        raise fail("give one of --audit, --study and --edit", ExitStatus.USAGE)
    return subject


def _policy(policy: str | None, template: str | None) -> str | JSON:
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
    return content


def _create(client: ServiceClient, content: JSON) -> str:
    """The policy of this content: the same content gives the same key, and that gives the first answer."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    created: str = client.create(POLICIES, content, key=f"memaudit-gate-{digest}")["id"]
    return created


def _table(gate: JSON) -> Table:
    """Each rule, what became of it and why."""
    subject = gate["subject"]
    table = Table(
        title=f"{gate['outcome']}: {gate['policy_name']} version {gate['policy_version']} on {subject['id']}"
    )
    for heading in ("rule", "outcome", "observed", "texts that decide"):
        table.add_column(heading)
    for rule in gate["rules"]:
        reason = f" ({rule['reason'].replace('_', ' ')})" if rule["reason"] else ""
        texts = ", ".join(rule["deciding_texts"][:3])
        more = rule["deciding_count"] - len(rule["deciding_texts"][:3])
        table.add_row(
            rule["rule"]["kind"],
            rule["outcome"] + reason,
            rule["statement"],
            f"{texts} and {more} more" if more else texts,
        )
    return table
