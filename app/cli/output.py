"""What commands print for programs: JSON on stdout, where everything for people then goes to stderr."""

import json
from typing import Annotated, Any

import typer

JSONFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a text.")]


def print_json(value: Any) -> None:
    """Print a JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
