"""`memaudit keys`: API keys, straight in the database, and the keys of the instance."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.master_keys import master, new_master, rotate_master
from app.cli.output import JSONFlag, print_json
from app.contracts.tenants import SCOPES
from app.errors import MemauditError, SigningUnavailable
from app.signing.keys import rotate_signing_key, to_json_web_key
from app.store.api_keys import APIKey, create_key, list_all_keys, revoke_key
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.trail import COMMAND_LINE, Action, Fact, ensure_tenant_by, record

# An id is copied from the list, so lines run on where the terminal is narrow.
_LIST_CHARACTERS: Final = 400
_DATES: Final = ("created_at", "expires_at", "revoked_at", "last_used_at")

cli = typer.Typer(
    help="Create, list and revoke API keys; rotate the keys for evidence and for texts.", no_args_is_help=True
)


@contextmanager
def _transaction() -> Iterator[Session]:
    """A transaction in the database of the settings, with its failures explained."""
    with explained():
        engine = sync_engine(find_settings().require_database_url())
        try:
            with sync_sessions(engine).begin() as session:
                yield session
        finally:
            engine.dispose()


@cli.command()
def create(
    tenant: Annotated[str, typer.Option(help="Who owns what the key makes; made when new.")] = "default",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    scope: Annotated[list[str], typer.Option(help=f"May be given often: {', '.join(SCOPES)}.")] = [  # noqa: B006 - typer copies it
        "audit:read",
        "audit:write",
    ],
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it ends by itself; never unless given.")
    ] = None,
    as_json: JSONFlag = False,
) -> None:
    """Make a key and print it. It is shown this once.

    Two keys of one name may live at a time: to rotate, make the second, change over, revoke the first.
    """
    if unknown := [each for each in scope if each not in SCOPES]:
        raise fail(f"no such scope: {', '.join(unknown)}; there are {', '.join(SCOPES)}", ExitStatus.USAGE)
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with _transaction() as session:
        tenant_id = ensure_tenant_by(session, tenant, actor=COMMAND_LINE)
        try:
            row, key = create_key(session, tenant_id, name=name, scopes=scope, expires_at=expires_at)
        except MemauditError as error:
            raise fail(error.detail, ExitStatus.FAILED) from None
        made = _describe(row, tenant)
        facts = {"scopes": scope, "expires_at": made["expires_at"]}
        _record(session, Action.KEY_CREATED, row, facts)
    if as_json:
        print_json(made | {"key": key})
    else:
        typer.echo(key)


@cli.command("list")
def list_all(*, as_json: JSONFlag = False) -> None:
    """List all keys by their last four characters."""
    with _transaction() as session:
        keys = [_describe(row, tenant) for row, tenant in list_all_keys(session)]
    if as_json:
        print_json(keys)
        return
    table = Table(box=None)
    headings = (date.removesuffix("_at").replace("_", " ") for date in _DATES)
    for heading in ("id", "tenant", "name", "ends in", "scopes", *headings):
        table.add_column(heading, no_wrap=True)
    for key in keys:
        days = [(key[date] or "").partition("T")[0] for date in _DATES]
        table.add_row(key["id"], key["tenant"], key["name"], key["ends_in"], " ".join(key["scopes"]), *days)
    Console(width=_LIST_CHARACTERS).print(table)


@cli.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id that `memaudit keys list` shows.")],
    *,
    as_json: JSONFlag = False,
) -> None:
    """Revoke a key for good."""
    identifier = parse_id(Prefix.API_KEY, key_id)
    with _transaction() as session:
        row = revoke_key(session, identifier) if identifier else None
        if row is not None:
            _record(session, Action.KEY_REVOKED, row)
    if row is None:
        raise fail("there is no such key, or it was revoked before", ExitStatus.FAILED)
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        typer.echo("Revoked.")


cli.command()(master)
cli.command("new-master")(new_master)
cli.command("rotate-master")(rotate_master)


@cli.command("rotate-signing")
def rotate_signing(
    directory: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where the keys are; default MEMAUDIT_SIGNING_KEYS."),
    ] = None,
    *,
    as_json: JSONFlag = False,
) -> None:
    """Make a key that signs evidence from now on; also the first. Those before it stay published."""
    with explained():
        place = directory or find_settings().signing_keys_directory
        try:
            key = rotate_signing_key(place)
        except (SigningUnavailable, OSError) as error:
            raise fail(f"no key was made in {place}: {error}", ExitStatus.FAILED) from error
    if as_json:
        print_json(to_json_web_key(key))
    else:
        typer.echo(f"Evidence is signed with {key.key_id} from now on; its key is in {place}.")


def _record(session: Session, action: Action, row: APIKey, facts: dict[str, Fact] | None = None) -> None:
    record(
        session,
        tenant_id=row.tenant_id,
        actor=COMMAND_LINE,
        action=action,
        subject=format_id(Prefix.API_KEY, row.id),
        facts=facts,
    )


def _describe(row: APIKey, tenant: str) -> dict[str, Any]:
    """What is known of a key, but not the key itself."""
    dates = {name: getattr(row, name) for name in _DATES}
    return {
        "id": format_id(Prefix.API_KEY, row.id),
        "tenant": tenant,
        "name": row.name,
        "ends_in": row.hint,
        "scopes": row.scopes,
        **{name: date.isoformat() if date else None for name, date in dates.items()},
    }
