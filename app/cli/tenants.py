"""`memaudit tenants`: administer tenants and their keys over the API, with a key that may."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.failures import ExitStatus, explained, fail
from app.cli.output import JSONFlag, as_document, print_json
from app.cli.service import URLOption, client_at
from app.contracts.tenants import SCOPES, ScopeName
from memaudit.types import Tenant

TenantArgument = Annotated[str, typer.Argument(help="The id that `memaudit tenants list` shows.")]

cli = typer.Typer(help="Administer tenants and their API keys over the API.", no_args_is_help=True)


@cli.command()
def create(
    name: Annotated[str, typer.Argument(help="Part of the names of its repositories.")],
    *,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Make a tenant. It has no key yet: `memaudit tenants add-key`."""
    with explained(), client_at(url) as client:
        _say(client.tenants.create(name=name), as_json=as_json)


@cli.command("list")
def list_all(*, url: URLOption = None, as_json: JSONFlag = False) -> None:
    """List the tenants that the key may see."""
    with explained(), client_at(url) as client:
        tenants = list(client.tenants.list())
    if as_json:
        print_json([as_document(each) for each in tenants])
        return
    table = Table("id", "name", "disabled", box=None)
    for each in tenants:
        table.add_row(each.id, each.name, "yes" if each.disabled else "")
    Console().print(table)


@cli.command()
def disable(tenant: TenantArgument, *, url: URLOption = None, as_json: JSONFlag = False) -> None:
    """Refuse all keys of a tenant, within seconds. What it asked for goes on."""
    with explained(), client_at(url) as client:
        _say(client.tenants.change(tenant, disabled=True), as_json=as_json)


@cli.command()
def enable(tenant: TenantArgument, *, url: URLOption = None, as_json: JSONFlag = False) -> None:
    """Let a tenant in again that was disabled."""
    with explained(), client_at(url) as client:
        _say(client.tenants.change(tenant, disabled=False), as_json=as_json)


@cli.command("add-key")
def add_key(
    tenant: TenantArgument,
    name: Annotated[str, typer.Option(help="What the key is for. Two of one name may live at a time.")],
    scope: Annotated[list[str], typer.Option(help=f"May be given often: {', '.join(SCOPES)}.")],
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it ends by itself.")] = None,
    *,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Make a key of a tenant and print it. It is shown this once."""
    expires_at = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    with explained(), client_at(url) as client:
        made = client.tenants.create_key(tenant, name=name, scopes=_scopes(scope), expires_at=expires_at)
    if as_json:
        print_json(made)
    else:
        typer.echo(made.key)


@cli.command("revoke-key")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The id of the key, `key_…`.")],
    *,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Revoke a key for good, within seconds."""
    with explained(), client_at(url) as client:
        revoked = client.tenants.revoke_key(key)
    if as_json:
        print_json(revoked)
    else:
        typer.echo("Revoked.")


@cli.command("keys")
def list_keys(tenant: TenantArgument, *, url: URLOption = None, as_json: JSONFlag = False) -> None:
    """List the keys of a tenant by their last four characters."""
    with explained(), client_at(url) as client:
        keys = list(client.tenants.list_keys(tenant))
    if as_json:
        print_json([as_document(each) for each in keys])
        return
    table = Table("id", "name", "ends in", "scopes", "expires", "revoked", "last used", box=None)
    for each in keys:
        dates = (each.expires_at, each.revoked_at, each.last_used_at)
        days = (f"{date:%Y-%m-%d}" if date else "" for date in dates)
        table.add_row(each.id, each.name, each.ends_in, " ".join(each.scopes), *days)
    Console(width=400).print(table)


def _scopes(given: list[str]) -> list[ScopeName]:
    known = [scope for scope in SCOPES if scope in given]
    if len(known) < len(set(given)):
        raise fail(f"there are the scopes {', '.join(SCOPES)}", ExitStatus.USAGE)
    return known


def _say(tenant: Tenant, *, as_json: bool) -> None:
    if as_json:
        print_json(tenant)
    else:
        typer.echo(f"{tenant.id}  {tenant.name}{'  (disabled)' if tenant.disabled else ''}")
