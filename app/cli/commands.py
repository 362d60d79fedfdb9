"""All commands of `memaudit`."""

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.cli import keys, tenants, trail
from app.cli.audit import audit
from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.evidence import evidence
from app.cli.failures import explained
from app.cli.found_settings import find_settings
from app.cli.gate import GateCommand, gate
from app.cli.output import JSONFlag, print_json
from app.cli.pull import pull
from app.cli.release import release
from app.cli.verify import verify
from app.embedded.devices import device_variables, worker_devices
from app.embedded.programs import api_command, worker_command
from app.embedded.supervisor import Ready, supervise
from app.sealing.keyring import Keyring
from app.settings import GPU_QUEUE, Queue, Settings
from app.store.conversion import convert_all
from app.store.core.migrate import newest_revision, upgrade
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import require_keys, with_keyring

cli = typer.Typer(
    help="Audit language models for memorization.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
cli.add_typer(keys.cli, name="keys")
cli.add_typer(tenants.cli, name="tenants")
cli.add_typer(trail.cli, name="trail")
cli.command()(audit)
cli.command()(demo)
cli.command()(doctor)
cli.command()(evidence)
cli.command(cls=GateCommand)(gate)
cli.command()(pull)
cli.command(cls=GateCommand)(release)
cli.command()(verify)

HomeOption = Annotated[
    Path | None,
    typer.Option(resolve_path=True, file_okay=False, help="Data directory; default MEMAUDIT_HOME."),
]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on; default MEMAUDIT_HOST.")]
PortOption = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one; default MEMAUDIT_PORT."),
]


def main() -> None:
    """Run the command line."""
    cli()


@cli.command()
def up(
    home: HomeOption = None, host: HostOption = None, port: PortOption = None, *, as_json: JSONFlag = False
) -> None:
    """Run the whole service on this machine: Postgres, Redis, a worker and the API.

    With --json one document goes to stdout once the service answers: its URL, where its key and logs are.
    """
    with explained():
        settings = _with_given(Settings(), home=home, host=host, port=port)
        try:
            supervise(settings, partial(typer.echo, err=as_json), partial(_say_ready, as_json=as_json))
        except KeyboardInterrupt:
            typer.echo("Stopped.", err=as_json)


def _say_ready(ready: Ready, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"url": ready.url, "api_key_path": os.fspath(ready.api_key_path), "logs": os.fspath(ready.logs)}
        )
    else:
        typer.echo(
            f"memaudit is ready at {ready.url}\nAPI key: {ready.api_key_path}\nLogs: {ready.logs}\n"
            "Stop it with Ctrl-C."
        )


@cli.command()
def api(host: HostOption = None, port: PortOption = None) -> None:
    """Run one API process against the Postgres and Redis of the settings."""
    with explained():
        settings = _with_given(_service_settings(), host=host, port=port)
        _become(api_command(settings.host, settings.port))


@cli.command()
def worker(
    queue: Annotated[Queue, typer.Option(help="gpu takes all work, cpu what needs no torch.")] = GPU_QUEUE,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, each with its own models in memory; default one a GPU, or one."),
    ] = None,
) -> None:
    """Run one worker against the Postgres and Redis of the settings; start as many as you like."""
    with explained():
        settings = _service_settings()
        groups = worker_devices(settings, queue)
        os.environ |= device_variables(groups)
        _become(worker_command(queue, concurrency or max(1, len(groups)), settings.log_level))


@cli.command()
def migrate(
    *,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="Seal nothing yet: processes of an older release go on.")
    ] = False,
    as_json: JSONFlag = False,
) -> None:
    """Bring the database to the newest schema, and seal what older releases stored in clear.

    With --json its revision and how many rows were converted go to stdout. What is broken off goes on when it
    is asked for again; the API goes on with it too.
    """
    with explained():
        settings = find_settings()
        keyring = Keyring(settings)
        keyring.require()
        database_url = settings.require_database_url()
        upgrade(database_url)
        converted = 0 if schema_only else convert_all(database_url, keyring)
    if as_json:
        print_json({"revision": newest_revision(database_url), "converted": converted})


@cli.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def suite(context: typer.Context) -> None:
    """Train small models with controlled insertions and report on them: `memaudit suite --help`."""
    _become([sys.executable, "-m", "workers.suite", *context.args])


@cli.command()
def version(*, as_json: JSONFlag = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        typer.echo(__version__)


def _service_settings() -> Settings:
    """The settings of a process that needs Postgres, Redis and a master key.

    Raises:
        ValueError: if one of the servers is not set.
        KeyUnavailable: if there is no master key, or not the one that is needed.
    """
    settings = find_settings()
    settings.require_database_url()
    settings.require_broker_url()
    _require_keys(settings)
    return settings


def _require_keys(settings: Settings) -> None:
    """Refuse to start a process with other master keys than what is stored needs.

    Raises:
        KeyUnavailable: there are none, or these open nothing here. That cannot be told while the database is
            away or has no tables yet.
    """
    keyring = Keyring(settings)
    keyring.require()
    engine = sync_engine(settings.require_database_url())
    try:
        with suppress(SQLAlchemyError), sync_sessions(engine, with_keyring(keyring)).begin() as session:
            require_keys(session)
    finally:
        engine.dispose()


def _with_given(settings: Settings, **given: Path | str | int | None) -> Settings:
    """The settings, with the options that were given on the command line."""
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def _become(command: list[str]) -> None:
    """Turn this process into the command, so that signals and the exit status are the command's own."""
    os.execv(command[0], command)  # noqa: S606 - one of our own commands
