"""The `memaudit` command within the process of a test."""

import os
from collections.abc import Mapping
from unittest import mock

from typer.testing import CliRunner, Result

from app.cli.commands import cli


def invoke(*arguments: object, environment: Mapping[str, str] | None = None) -> Result:
    """Run `memaudit ARGUMENTS`. What it adds to the environment is gone when it ends, as with a process.

    Commands add the variables of the embedded service that they find; left behind, they would lead
    every later `memaudit up` of this process to that service's servers.
    """
    with mock.patch.dict(os.environ, environment or {}):
        return CliRunner().invoke(cli, [*map(str, arguments)])
