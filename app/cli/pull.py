"""`memaudit pull`: download an artifact, resume where a download broke off, verify every byte."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from app.cli.failures import ExitStatus, explained, fail
from app.cli.output import JSONFlag, print_json
from app.cli.service import URLOption, client_at
from app.store.core.identifiers import Prefix, parse_id
from memaudit import Client
from memaudit.types import Artifact


def pull(
    artifact: Annotated[str, typer.Argument(help="The id of an artifact, `art_…`.")],
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Where to; made if missing.")],
    url: URLOption = None,
    as_json: JSONFlag = False,
) -> None:
    """Download an artifact and verify it. Run again after a failure, it goes on where it stopped.

    With --json the artifact as the service gives it goes to stdout, once all of it is there.

    The key is read from MEMAUDIT_API_KEY, else from the data directory of this machine's service; it needs
    the scope edit:read. The exit status is 0 when every file is there and matches its SHA-256.
    """
    if parse_id(Prefix.ARTIFACT, artifact) is None:
        raise fail(f"{artifact} is not the id of an artifact: art_ and 32 hex digits", ExitStatus.USAGE)
    with explained():
        try:
            with client_at(url) as client:
                pulled = pull_artifact(client, artifact, directory)
        except OSError as error:
            raise fail(f"{directory}: {error.strerror}", ExitStatus.FAILED) from error
    if as_json:
        print_json(pulled)
        return
    typer.echo(f"{pulled.model_repo}: {len(pulled.files)} files verified in {directory}")


def pull_artifact(client: Client, artifact_id: str, directory: Path) -> Artifact:
    """Download what is missing of an artifact's files, with a progress bar on stderr; the artifact."""
    artifact = client.artifacts.get(artifact_id)
    with _transfer_bar() as progress:
        bar = progress.add_task(artifact.name, total=artifact.total_bytes)
        return client.artifacts.pull(
            artifact_id, directory, on_bytes=lambda count: progress.advance(bar, count)
        )


def _transfer_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
