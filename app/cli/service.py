"""The service that a command speaks with, and the key that it shows."""

import os
from typing import Annotated

import typer

from app.cli.failures import ExitStatus, fail
from app.cli.found_settings import find_settings
from app.embedded.programs import local_url
from app.settings import Settings
from memaudit import Client

URLOption = Annotated[
    str | None, typer.Option("--url", envvar="MEMAUDIT_URL", help="The service; default: this machine's.")
]


def client_at(url: str | None) -> Client:
    """A client of a service, by default of the one that `memaudit up` runs on this machine.

    Raises:
        typer.Exit: there is no key.
    """
    settings = find_settings()
    return Client(url or local_url(settings), owner_key(settings))


def owner_key(settings: Settings) -> str:
    """The API key, never taken from the command line, which every process can read."""
    if key := os.environ.get("MEMAUDIT_API_KEY"):
        return key
    try:
        return settings.api_key_path.read_text().strip()
    except OSError:
        raise fail(
            f"set MEMAUDIT_API_KEY; there is no readable key in {settings.api_key_path}", ExitStatus.USAGE
        ) from None
