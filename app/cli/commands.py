"""All commands of `memaudit`."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app import __version__
from app.cli import keys, tenants, trail
from app.cli.audit import audit
from app.cli.demo import demo
from app.cli.evidence import evidence
from app.cli.failures import explained
from app.cli.found_settings import find_settings
from app.cli.gate import GateCommand, gate
from app.cli.output import JSONFlag, print_json
from app.cli.pull import pull
from app.cli.release import release
from app.cli.verify import verify
from app.embedded.programs import api_command, worker_command
from app.embedded.supervisor import Ready, supervise
from app.settings import GPU_QUEUE, Queue, Settings
from app.store.core.migrate import newest_revision, upgrade

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
        int, typer.Option(min=1, help="Processes, each with its own models in memory.")
    ] = 1,
) -> None:
    """Run one worker against the Postgres and Redis of the settings; start as many as you like."""
    with explained():
        settings = _service_settings()
        _become(worker_command(queue, concurrency, settings.log_level))


@cli.command()
def migrate(*, as_json: JSONFlag = False) -> None:
    """Bring the database to the newest schema. With --json its revision goes to stdout."""
    with explained():
        database_url = find_settings().require_database_url()
        upgrade(database_url)
    if as_json:
        print_json({"revision": newest_revision(database_url)})


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
    """The settings of a process that needs both Postgres and Redis.

    Raises:
        ValueError: if one of them is not set.
    """
    settings = find_settings()
    settings.require_database_url()
    settings.require_broker_url()
    return settings


def _with_given(settings: Settings, **given: Path | str | int | None) -> Settings:
    """The settings, with the options that were given on the command line."""
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def _become(command: list[str]) -> None:
    """Turn this process into the command, so that signals and the exit status are the command's own."""
    os.execv(command[0], command)  # noqa: S606 - one of our own commands
