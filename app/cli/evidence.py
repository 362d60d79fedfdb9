"""`memaudit evidence`: list and download the documents that prove what was found."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.failures import ExitStatus, explained, fail
from app.cli.output import JSONFlag, as_document, print_json
from app.cli.service import URLOption, client_at
from app.store.core.identifiers import Prefix, parse_id
from memaudit import Client
from memaudit.synchronous.resources import Operations
from memaudit.types import Audit, Edit, Gate, Study


def evidence(
    subject: Annotated[str, typer.Argument(help="The id of an audit, study, edit or gate.")],
    format_name: Annotated[
        str | None, typer.Argument(metavar="FORMAT", help="in-toto, html, …; all are listed unless given.")
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="Where to; the id and the format unless given.")
    ] = None,
    *,
    with_texts: Annotated[
        bool, typer.Option("--texts", help="With the submitted texts; needs the scope audit:evidence.")
    ] = False,
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Download evidence of finished work, or list the formats that there are of it.

    The exit status is 0 when the document is there, 1 when it was refused: the work has not succeeded, there
    is no such format, or the key may not read texts.
    """
    with explained(), client_at(url) as client:
        operations = _operations(client, subject)
        if format_name is None:
            _list(operations, subject, as_json=as_json)
            return
        target = file or Path(f"{subject}.{format_name}")
        texts: Literal["redacted", "full"] = "full" if with_texts else "redacted"
        try:
            operations.save_evidence(subject, format_name, target, texts=texts)
        except OSError as error:
            raise fail(f"{target}: {error.strerror}", ExitStatus.FAILED) from error
    if as_json:
        print_json({"file": str(target), "sha256": hashlib.sha256(target.read_bytes()).hexdigest()})
    else:
        typer.echo(target)


def _list(
    operations: Operations[Audit] | Operations[Study] | Operations[Edit] | Operations[Gate],
    subject: str,
    *,
    as_json: bool,
) -> None:
    formats = list(operations.evidence_formats(subject))
    if as_json:
        print_json([as_document(each) for each in formats])
        return
    for each in formats:
        typer.echo(f"{each.name}: {each.title}" + ("" if each.available else " (not yet)"))


def _operations(
    client: Client, subject: str
) -> Operations[Audit] | Operations[Study] | Operations[Edit] | Operations[Gate]:
    """The resources that an id is one of."""
    if parse_id(Prefix.AUDIT, subject):
        return client.audits
    if parse_id(Prefix.STUDY, subject):
        return client.studies
    if parse_id(Prefix.EDIT, subject):
        return client.edits
    if parse_id(Prefix.GATE, subject):
        return client.gates
    raise fail(f"{subject} is not the id of an audit, study, edit or gate", ExitStatus.USAGE)
