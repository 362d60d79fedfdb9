"""`memaudit audit`: upload texts, audit a language model on them, show what it memorized."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.client import JSON, ServiceClient
from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.intervals import mean_cell, share_cell
from app.cli.model_choice import find_model, require_nameable
from app.cli.output import JSONFlag, print_json
from app.contracts.audits import PrefixTokenName
from app.contracts.metrics.fields import MetricName
from app.embedded.programs import local_url
from app.settings import Settings

_MEDIA_TYPES: Final = {
    ".jsonl": "application/jsonl",
    ".ndjson": "application/jsonl",
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
}
_CHUNK_BYTES: Final = 256 * 1024
_DEFAULT_METRICS: Final = "nl,extraction"


def audit(
    *,
    model: Annotated[
        str,
        typer.Option(
            help="A directory, an id `mdl_…`, an edited model `tenant/name` of the service, or a hub "
            "repository `org/name` or `org/name@revision`."
        ),
    ],
    texts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Texts: .jsonl, .csv or .parquet.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Instead of texts, a published data set that the service fetches: hubble/wikipedia, …"
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help=f"With commas: {', '.join(get_args(MetricName))}.")
    ] = _DEFAULT_METRICS,
    url: Annotated[
        str | None, typer.Option(envvar="MEMAUDIT_URL", help="The service; default: this machine's.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the score of each text to this file.")] = None,
    as_json: JSONFlag = False,
    prefix_token: Annotated[
        str | None,
        typer.Option(help=f"What stands before each text: {', '.join(get_args(PrefixTokenName))} or an id."),
    ] = None,
    special_tokens: Annotated[
        Literal["control", "text"] | None,
        typer.Option(help="What the string of a special token inside a text becomes: that token, or text."),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Texts of the same kind that the model never saw: each audited text then gets a verdict.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="A model like --model that never saw the texts, named as --model is."),
    ] = None,
) -> None:
    """Audit a language model on a file of texts, or a published data set, and print what it memorized.

    A `tenant/name` that the service has an edited model of is that one, else a hub repository; which one was
    taken is said. With --json the audit as the service gives it goes to stdout, also when it failed.

    The key is read from MEMAUDIT_API_KEY, else from the data directory of this machine's service.
    The exit status is 0 when the audit succeeded, 1 when it failed, 2 for a wrong command line and
    3 when the service cannot be reached.
    """
    screen = Console(stderr=True)
    with explained():
        settings = find_settings()
        options = _options(prefix_token, special_tokens)
        body: JSON = {"metrics": _metrics(metrics), "options": options}
        files = _text_files(texts, preset, control)
        named = {"model": model} | ({} if reference is None else {"reference_model": reference})
        for each in named.values():
            require_nameable(each)
        media_types = {field: _media_type(path) for field, path in files.items()}
        body |= {} if preset is None else {"preset": preset}
        with ServiceClient(url or local_url(settings), owner_key(settings)) as client:
            for field, name in named.items():
                body[field], words = find_model(client, name)
                doing = "Auditing" if field == "model" else "Comparing it with"
                screen.print(f"{doing} {words}", markup=False, highlight=False, soft_wrap=True)
            with progress_bars(screen) as progress:
                for field, path in files.items():
                    with progress.open(path, "rb", description="Uploading") as file:
                        body[field] = client.upload_texts(_chunks(file), media_types[field], path.name)["id"]
                accepted = client.request_audit(body)
                screen.print(f"Audit {accepted['id']}")
                ended = follow_with_progress(client, accepted, progress, "Scoring texts")
            if as_json:
                print_json(ended)
            if ended["status"] != "succeeded":
                raise fail(_why(ended), ExitStatus.FAILED)
            if csv:
                client.save_scores(ended, "text/csv", csv)
    if not as_json:
        Console().print(_result_table(ended))
        if found := ended["summary"].get("calibration"):
            Console().print(_verdicts(found))


def _metrics(names: str) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in get_args(MetricName)]:
        known = ", ".join(get_args(MetricName))
        raise fail(f"no such metric: {', '.join(unknown)}; there are {known}", ExitStatus.USAGE)
    return chosen


def _text_files(texts: Path | None, preset: str | None, control: Path | None) -> dict[str, Path]:
    """The files to upload, by the field of the request that takes their text sets."""
    if (texts is None) == (preset is None):
        raise fail("give either --texts or --preset", ExitStatus.USAGE)
    given = {"text_set": texts, "control_text_set": control}
    return {field: path for field, path in given.items() if path is not None}


def _options(prefix_token: str | None, special_tokens: str | None) -> JSON:
    """The options that were given; the service knows the rest."""
    given = {
        "prefix_token": None if prefix_token is None else _prefix_token(prefix_token),
        "special_tokens": special_tokens,
    }
    return {name: value for name, value in given.items() if value is not None}


def _prefix_token(choice: str) -> str | int:
    if choice.isdecimal():
        return int(choice)
    if choice not in get_args(PrefixTokenName):
        known = ", ".join(get_args(PrefixTokenName))
        raise fail(f"no such prefix token: {choice}; there are {known} and ids", ExitStatus.USAGE)
    return choice


def _media_type(texts: Path) -> str:
    try:
        return _MEDIA_TYPES[texts.suffix.lower()]
    except KeyError:
        raise fail(
            f"{texts.name}: a file of texts ends in {', '.join(_MEDIA_TYPES)}", ExitStatus.USAGE
        ) from None


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


def progress_bars(screen: Console) -> Progress:
    """Bars with counts and elapsed time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
    )


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def follow_with_progress(client: ServiceClient, work: JSON, progress: Progress, description: str) -> JSON:
    """Show the progress of an audit, an edit or a gate until it ends; the ended resource."""
    bar = progress.add_task(description, total=None)
    said: str | None = None
    for work in client.follow(work):  # noqa: B020, PLR1704 - each is the same resource, later
        reached: dict[str, Any] = work["progress"]
        stage = f" ({reached['stage'].replace('_', ' ')})" if reached.get("stage") else ""
        if waiting := work.get("waiting"):
            stage = f" (waiting; tried again at {_clock(waiting['next_try_at'])})"
            if waiting["since"] != said:
                said = waiting["since"]
                progress.console.print(
                    f"Waiting: {waiting['reason']['detail']}", markup=False, soft_wrap=True
                )
        progress.update(
            bar, description=description + stage, completed=reached["done"], total=reached["total"]
        )
    return work


def _clock(moment: str) -> str:
    """A moment as this machine's clock shows it."""
    return datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S")


def _why(audit: JSON) -> str:
    """Why an audit did not succeed."""
    error = audit.get("error")
    return f"the audit {audit['status']}" + (f": {error['detail']}" if error else "")


def _verdicts(found: JSON) -> str:
    """How many texts are shown to be memorized, or why nothing is shown of any."""
    counts: dict[str, int] = found["verdicts"]
    shown = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items())
    why = f" ({found['reason'].replace('_', ' ')})" if found["reason"] else ""
    return f"{shown}{why} at a false discovery rate of {found['fdr']}, by {found['n_controls']} control texts"


def _result_table(audit: JSON) -> Table:
    """Mean NL and the share recited, by group and known number of duplicates, with 95 % intervals."""
    summary: dict[str, Any] = audit["summary"]
    counts = f"{summary['texts']} texts, {summary['errors']} not scored"
    perplexity = summary["perplexity"]
    shown = "" if perplexity is None else f", perplexity {perplexity:.1f}"
    table = Table(title=f"{counts}{shown} [95 % intervals]")
    for heading in ("group", "duplicates", "n", "mean NL", "strict"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for level in summary["levels"]:
        table.add_row(
            level["group"] or "",
            "" if level["duplicates"] is None else str(level["duplicates"]),
            str(level["nl"]["n"]),
            mean_cell(level["nl"]),
            share_cell(level["strict"]),
        )
    return table
