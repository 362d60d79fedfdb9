"""`memaudit trail`: keep copies of the audit trail, and check that it is what it was."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.cli.service import URLOption, client_at
from app.cli.verify import trusted_keys
from app.contracts.trail import HEAD_PAYLOAD, Checked, TrailEntryOut, TrailHead, check_chain
from app.signing.dsse import EnvelopeInvalid, open_envelope
from app.signing.keys import PublicKey
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.trail import answer_entry, count_unchained, list_entries

_AT_ONCE: Final = 10_000

cli = typer.Typer(help="Export and verify the audit trail: who did what.", no_args_is_help=True)


@cli.command()
def export(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to, as JSON lines.")],
    *,
    tenant: Annotated[str | None, typer.Option(help="The id of a tenant, for an operator.")] = None,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Write the trail of the tenant of the key to a file; with the scope `admin` that of all tenants."""
    with explained(), client_at(url) as client:
        if tenant is None:
            client.trail.save(file)
        else:
            client.trail.save(file, tenant=tenant)
    _say_written(file, as_json=as_json)


@cli.command()
def head(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to.")],
    *,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Write the signed digest of the last entry to a file. Keep it where the service cannot reach it."""
    with explained(), client_at(url) as client:
        file.write_bytes(client.trail.head())
    _say_written(file, as_json=as_json)


@cli.command()
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="An export; the database of the settings if none."),
    ] = None,
    *,
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            "--head", exists=True, dir_okay=False, help="Of `memaudit trail head`; as often as needed."
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(help="The keys that may have signed heads, as of `memaudit verify`."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="The export holds the entries of one tenant or action only.")
    ] = False,
    as_json: JSONFlag = False,
) -> None:
    """Check that no entry of the trail was changed, removed, moved or put in between.

    Entries cut off at the end are found by a signed head of before. The exit status is 0 when the trail is as
    it was, and 1 when it is not; then it is said where it breaks first.
    """
    with explained():
        signed = [_read_head(path, trusted_keys(keys)) for path in heads or []]
        if file is None:
            checked, waiting = _check_database(signed)
        else:
            checked, waiting = check_chain(_read_lines(file), signed, whole=not partial), 0
    if as_json:
        print_json({"verified": checked.broken is None, "not_yet_chained": waiting, **asdict(checked)})
    else:
        _print(checked, waiting)
    if checked.broken is not None:
        raise typer.Exit(ExitStatus.FAILED)


def _check_database(heads: list[TrailHead]) -> tuple[Checked, int]:
    engine = sync_engine(find_settings().require_database_url())
    try:
        with sync_sessions(engine.execution_options(isolation_level="REPEATABLE READ")).begin() as session:
            return check_chain(_read_database(session), heads), count_unchained(session)
    finally:
        engine.dispose()


def _read_database(session: Session) -> Iterator[TrailEntryOut]:
    place = 0
    while rows := list_entries(session, after=place, limit=_AT_ONCE):
        for row in rows:
            yield answer_entry(row)
            place = row.place or place
        session.expunge_all()


def _read_lines(file: Path) -> Iterator[TrailEntryOut]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield TrailEntryOut.model_validate_json(line)
            except ValidationError:
                raise fail(f"line {number} of {file} is no entry of a trail", ExitStatus.FAILED) from None


def _read_head(file: Path, trusted: Mapping[str, PublicKey]) -> TrailHead:
    try:
        opened = open_envelope(file.read_bytes(), trusted)
    except EnvelopeInvalid as error:
        raise fail(f"{file} is not to be trusted: {error}", ExitStatus.FAILED) from None
    if opened.payload_type != HEAD_PAYLOAD:
        raise fail(f"{file} is signed, but no head of a trail", ExitStatus.FAILED)
    return TrailHead.model_validate_json(opened.payload)


def _print(checked: Checked, waiting: int) -> None:
    if checked.broken is not None:
        typer.echo(f"The trail is broken at place {checked.broken.place}: {checked.broken.found}.")
        return
    typer.echo(f"The trail is whole: {checked.entries} entries, the last is {checked.last_sha256}.")
    if waiting:
        typer.echo(f"{waiting} more are not chained yet; an API process does that within seconds.")


def _say_written(file: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file)})
    else:
        typer.echo(file)
