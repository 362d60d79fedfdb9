"""`memaudit keys`: API keys, straight in the database, and the keys that evidence is signed with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.orm import Session

from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.errors import SigningUnavailable
from app.signing.keys import rotate_signing_key, to_json_web_key
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.tenants import SCOPES, APIKey, create_key, list_keys, revoke_key

# An id is copied from the list, so lines run on where the terminal is narrow.
_LIST_CHARACTERS: Final = 400

cli = typer.Typer(help="Create, list and revoke API keys; rotate the key for evidence.", no_args_is_help=True)


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
    as_json: JSONFlag = False,
) -> None:
    """Make a key and print it. It is shown this once."""
    if unknown := [each for each in scope if each not in SCOPES]:
        raise fail(f"no such scope: {', '.join(unknown)}; there are {', '.join(SCOPES)}", ExitStatus.USAGE)
    with _transaction() as session:
        row, key = create_key(session, tenant=tenant, name=name, scopes=scope)
        made = _describe(row, tenant)
    if as_json:
        print_json(made | {"key": key})
    else:
        typer.echo(key)


@cli.command("list")
def list_all(*, as_json: JSONFlag = False) -> None:
    """List all keys by their last four characters."""
    with _transaction() as session:
        keys = [_describe(row, tenant) for row, tenant in list_keys(session)]
    if as_json:
        print_json(keys)
        return
    table = Table(box=None)
    for heading in ("id", "tenant", "name", "ends in", "scopes", "created", "revoked"):
        table.add_column(heading, no_wrap=True)
    for key in keys:
        dates = [(key[name] or "").partition("T")[0] for name in ("created_at", "revoked_at")]
        table.add_row(key["id"], key["tenant"], key["name"], key["ends_in"], " ".join(key["scopes"]), *dates)
    Console(width=_LIST_CHARACTERS).print(table)


@cli.command()
def revoke(
    key_id: Annotated[UUID, typer.Argument(help="The id that `memaudit keys list` shows.")],
    *,
    as_json: JSONFlag = False,
) -> None:
    """Revoke a key for good."""
    with _transaction() as session:
        revoked = revoke_key(session, key_id)
    if not revoked:
        raise fail("there is no such key, or it was revoked before", ExitStatus.FAILED)
    if as_json:
        print_json({"id": str(key_id), "revoked": True})
    else:
        typer.echo("Revoked.")


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


def _describe(row: APIKey, tenant: str) -> dict[str, Any]:
    """What is known of a key, but not the key itself."""
    return {
        "id": str(row.id),
        "tenant": tenant,
        "name": row.name,
        "ends_in": row.hint,
        "scopes": row.scopes,
        "created_at": row.created_at.isoformat(),
        "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
    }
