"""`memaudit audit`: upload texts, audit a language model on them, show what it memorized."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli.estimates import show_estimate
from app.cli.failures import ExitStatus, explained, fail
from app.cli.following import follow_with_progress, progress_bars
from app.cli.intervals import mean_cell, share_cell
from app.cli.model_choice import find_model, require_nameable
from app.cli.output import JSONFlag, print_json
from app.cli.service import URLOption, client_at
from app.contracts.audits import PrefixTokenName
from app.contracts.metrics.fields import MetricName
from memaudit import Client
from memaudit.formats import SUFFIXES, format_of
from memaudit.types import Audit, AuditSummary, Calibration, Estimate

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
    url: URLOption = None,
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
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what it would take, and do nothing. Texts are uploaded for it, then erased.",
        ),
    ] = False,
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
        body: dict[str, Any] = {
            "metrics": _metrics(metrics),
            "options": _options(prefix_token, special_tokens),
            "preset": preset,
        }
        files = _text_files(texts, preset, control)
        named = {"model": model} | ({} if reference is None else {"reference_model": reference})
        for each in named.values():
            require_nameable(each)
        for path in files.values():
            _require_format(path)
        with client_at(url) as client:
            body |= _find_models(client, named, screen)
            with progress_bars(screen) as progress:
                for field, path in files.items():
                    body[field] = _upload(client, path, progress)
                if dry_run:
                    show_estimate(_estimate(client, body, files), as_json=as_json)
                    return
                accepted = client.audits.create(**body)
                screen.print(f"Audit {accepted.id}")
                ended = follow_with_progress(client.audits, accepted.id, progress, "Scoring texts")
            if as_json:
                print_json(ended)
            if ended.status != "succeeded":
                raise fail(_why(ended), ExitStatus.FAILED)
            if csv:
                _save_scores(client, ended.id, csv)
    if not as_json and ended.summary is not None:
        Console().print(_result_table(ended.summary))
        if found := ended.summary.calibration:
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


def _options(prefix_token: str | None, special_tokens: str | None) -> dict[str, Any]:
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


def _find_models(client: Client, named: dict[str, str], screen: Console) -> dict[str, Any]:
    """The language models by the field of the request that names them; says which they are."""
    found = {}
    for field, name in named.items():
        found[field], words = find_model(client, name)
        doing = "Auditing" if field == "model" else "Comparing it with"
        screen.print(f"{doing} {words}", markup=False, highlight=False, soft_wrap=True)
    return found


def _require_format(texts: Path) -> None:
    if format_of(texts) is None:
        raise fail(f"{texts.name}: a file of texts ends in {', '.join(SUFFIXES)}", ExitStatus.USAGE)


def _upload(client: Client, texts: Path, progress: Progress) -> str:
    """Store a file of texts; the id of the text set."""
    bar = progress.add_task("Uploading", total=texts.stat().st_size)
    return client.text_sets.upload(texts, on_sent=lambda sent: progress.update(bar, completed=sent)).id


def _save_scores(client: Client, audit_id: str, csv: Path) -> None:
    """Write the score of each text to a file."""
    try:
        client.audits.save_scores(audit_id, csv, format="csv")
    except OSError as error:
        raise fail(f"{csv}: {error.strerror}", ExitStatus.FAILED) from error


def _estimate(client: Client, body: Any, files: dict[str, Path]) -> Estimate:
    """What an audit of texts that were uploaded would take; they are erased again."""
    try:
        return client.audits.estimate(**body)
    finally:
        for field in files:
            client.text_sets.delete(body[field])


def _why(audit: Audit) -> str:
    """Why an audit did not succeed."""
    return f"the audit {audit.status}" + (f": {audit.error.detail}" if audit.error else "")


def _verdicts(found: Calibration) -> str:
    """How many texts are shown to be memorized, or why nothing is shown of any."""
    counts: dict[str, int] = found.verdicts.model_dump()
    shown = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items())
    why = f" ({found.reason.replace('_', ' ')})" if found.reason else ""
    return f"{shown}{why} at a false discovery rate of {found.fdr}, by {found.n_controls} control texts"


def _result_table(summary: AuditSummary) -> Table:
    """Mean NL and the share recited, by group and known number of duplicates, with 95 % intervals."""
    counts = f"{summary.texts} texts, {summary.errors} not scored"
    shown = "" if summary.perplexity is None else f", perplexity {summary.perplexity:.1f}"
    table = Table(title=f"{counts}{shown} [95 % intervals]")
    for heading in ("group", "duplicates", "n", "mean NL", "strict"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for level in summary.levels:
        table.add_row(
            level.group or "",
            "" if level.duplicates is None else str(level.duplicates),
            str(level.nl.n),
            mean_cell(level.nl),
            share_cell(level.strict),
        )
    return table
