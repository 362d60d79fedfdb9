"""`memaudit pull`: download an artifact, resume where a download broke off, verify every byte."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

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

from app.cli.audit import owner_key
from app.cli.client import JSON, ClientError, ServiceClient, ServiceUnreachable
from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.embedded.programs import local_url
from app.store.artifacts import is_file_path
from app.store.core.identifiers import Prefix, parse_id

# How long a download goes on trying without a byte of progress.
_PATIENCE_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.5
_BLOCK_BYTES: Final = 2**20
_PARTIAL_CONTENT: Final = 206

OnBytes = Callable[[int], None]


class PullFailed(ClientError):
    """What was downloaded is not what the manifest says."""


def pull(
    artifact: Annotated[str, typer.Argument(help="The id of an artifact, `art_…`.")],
    directory: Annotated[Path, typer.Argument(file_okay=False, help="Where to; made if missing.")],
    url: Annotated[
        str | None, typer.Option(envvar="MEMAUDIT_URL", help="The service; default: this machine's.")
    ] = None,
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
        settings = find_settings()
        try:
            with ServiceClient(url or local_url(settings), owner_key(settings)) as client:
                pulled = pull_artifact(client, artifact, directory)
        except PullFailed as error:
            raise fail(str(error), ExitStatus.FAILED) from error
        except OSError as error:
            raise fail(f"{directory}: {error.strerror}", ExitStatus.FAILED) from error
    if as_json:
        print_json(pulled)
        return
    typer.echo(f"{pulled['model_repo']}: {len(pulled['files'])} files verified in {directory}")


def pull_artifact(client: ServiceClient, artifact_id: str, directory: Path) -> JSON:
    """Download what is missing of an artifact's files, with a progress bar on stderr.

    Args:
        client: with a key that has the scope edit:read.
        artifact_id: `art_…`.
        directory: made if missing. Its other files stay as they are.

    Returns:
        The artifact, each of whose files is there and matches its digest.

    Raises:
        PullFailed: a file does not match its digest; it is not kept.
        ServiceUnreachable: the service did not answer for half a minute. What came is kept.
        RequestRefused: there is no such artifact, or its bytes in the store are corrupt.
    """
    artifact = client.read(f"/v1/artifacts/{artifact_id}", {})
    with _transfer_bar() as progress:
        bar = progress.add_task(artifact["name"], total=artifact["total_bytes"])
        for file in artifact["files"]:
            _pull_file(client, artifact_id, file, directory, lambda count: progress.advance(bar, count))
    return artifact


def _transfer_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _pull_file(
    client: ServiceClient, artifact_id: str, file: dict[str, Any], directory: Path, on_bytes: OnBytes
) -> None:
    path, size, sha256 = file["path"], file["size"], file["sha256"]
    if not is_file_path(path):
        raise PullFailed("the artifact has a file whose path could lead outside the directory")
    target = directory / path
    if _matches(target, size, sha256):
        on_bytes(size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{sha256[:16]}.part")
    _download(client, f"/v1/artifacts/{artifact_id}/files/{quote(path)}", file, partial, on_bytes)
    if not _matches(partial, size, sha256):
        partial.unlink()
        raise PullFailed(f"{path} does not match its SHA-256 and was not kept; pull again")
    partial.replace(target)


def _download(
    client: ServiceClient, url: str, file: dict[str, Any], partial: Path, on_bytes: OnBytes
) -> None:
    """Fetch what is missing of a partial file, for as long as it grows."""
    partial.touch()
    if partial.stat().st_size > file["size"]:
        os.truncate(partial, 0)
    on_bytes(partial.stat().st_size)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (before := partial.stat().st_size) < file["size"]:
        try:
            _fetch_rest(client, url, file["sha256"], partial, on_bytes)
        except ServiceUnreachable:
            if partial.stat().st_size > before:
                deadline = time.monotonic() + _PATIENCE_SECONDS
            elif time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _fetch_rest(client: ServiceClient, url: str, sha256: str, partial: Path, on_bytes: OnBytes) -> None:
    have = partial.stat().st_size
    # The digest makes sure that the rest is of the same file.
    wanted = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
    with client.stream(url, wanted | {"Accept-Encoding": "identity"}) as response:
        if have and response.status_code != _PARTIAL_CONTENT:
            os.truncate(partial, 0)
            on_bytes(-have)
        with partial.open("ab") as output:
            for block in response.iter_bytes(_BLOCK_BYTES):
                output.write(block)
                on_bytes(len(block))


def _matches(path: Path, size: int, sha256: str) -> bool:
    """Whether a file is there and has these bytes."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
