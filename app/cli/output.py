"""What commands print for programs: JSON on stdout, where everything for people then goes to stderr."""

import json
from typing import Annotated, Any

import typer

from memaudit.base import Answer

JSONFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a text.")]


def as_document(answer: Answer) -> dict[str, Any]:
    """An answer of the service just as it came."""
    return answer.model_dump(mode="json", exclude_unset=True)


def print_json(value: Any) -> None:
    """Print a JSON document on stdout; an answer of the service just as it came."""
    if isinstance(value, Answer):
        value = as_document(value)
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
