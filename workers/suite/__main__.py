"""`python -m workers.suite`: train a suite of models to audit, and report on what it memorized."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from workers.suite.build import Request, build, default_device
from workers.suite.errors import SuiteError
from workers.suite.report.report import write_report, write_spectrum
from workers.suite.sizes import SIZES
from workers.suite.variants import Variants

JSONFlag = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs on stdout; all else goes to stderr.")
]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
# The tests have a size of their own.
_OFFERED = [name for name in SIZES if name != "tiny"]


@app.callback()
def main() -> None:
    """Small families of language models trained with controlled insertions."""


@app.command()
def train(
    *,
    out: Annotated[Path, typer.Option(help="Directory for the models, text sets and manifest.")],
    size: Annotated[
        str, typer.Option(help="nano, micro and reason train on a CPU; small and 1b want a GPU.")
    ] = "nano",
    corpus: Annotated[
        Path | None,
        typer.Option(
            exists=True, help="Text file or directory of text files. Default: the standard library's docs."
        ),
    ] = None,
    timing: Annotated[bool, typer.Option("--timing", help="Also train the six timing runs.")] = False,
    dilution: Annotated[
        bool, typer.Option("--dilution", help="Also insert the same texts in a corpus twice as long.")
    ] = False,
    paraphrases: Annotated[
        bool, typer.Option("--paraphrases", help="Also insert each copy in another wording.")
    ] = False,
    interference: Annotated[
        bool, typer.Option("--interference", help="Also insert one risk domain alone, in three runs.")
    ] = False,
    plant: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Also insert these texts: JSONL records with duplicates."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, instead of the size's.")] = None,
    keep_steps: Annotated[
        int | None, typer.Option(min=1, help="Keep a checkpoint of each model every so many steps.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw and of the weights.")] = 0,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Default: a GPU if there is one.")
    ] = None,
    as_json: JSONFlag = False,
) -> None:
    """Train a standard and a perturbed model and write their text sets.

    The same command gives the same files, bit for bit, on the same machine. A finished suite is not
    trained again.
    """
    console = Console(stderr=True)
    if size not in SIZES:
        raise typer.BadParameter(f"choose one of {', '.join(_OFFERED)}", param_hint="--size")
    if device == "cuda" and default_device() == "cpu":
        raise typer.BadParameter("there is no GPU that torch can use", param_hint="--device")
    chosen = SIZES[size] if steps is None else replace(SIZES[size], steps=steps)
    request = Request(
        size=chosen,
        out=out,
        corpus=corpus,
        seed=seed,
        variants=Variants(
            timing=timing, dilution=dilution, paraphrases=paraphrases, interference=interference
        ),
        plant=plant,
        keep_steps=keep_steps,
        device=device or default_device(),
    )
    started = time.monotonic()
    try:
        trained = build(request, console)
    except SuiteError as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    if trained:
        console.print(f"Trained {size} in {time.monotonic() - started:.0f} s: {out}")
    else:
        console.print(f"Cached: {out} already holds this suite.")
    if as_json:
        _print_json({"directory": str(out), "size": size, "trained": trained})


@app.command()
def report(
    *,
    directories: Annotated[list[Path], typer.Argument(metavar="DIR", exists=True, file_okay=False)],
    out: Annotated[
        Path | None, typer.Option(help="Directory for the report. Default: DIR/report; of several: needed.")
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Default: a GPU if there is one.")
    ] = None,
    as_json: JSONFlag = False,
) -> None:
    """Audit a trained suite and write HUBBLE's tables: report.md, report.csv and a plot of each.

    Of several suites that differ in their seed: what an edit keeps of each task, over all of them, as
    spectrum.md, spectrum.csv and a plot. Needs no service. The same suites give the same bytes on the same
    machine.
    """
    console = Console(stderr=True)
    first, *more = directories
    if more and out is None:
        raise typer.BadParameter("name a directory for a report on several suites", param_hint="--out")
    try:
        if more and out is not None:
            written, table = write_spectrum(directories, out, device or default_device(), console)
            if not as_json:
                typer.echo(table)
        else:
            written = write_report(first, out or first / "report", device or default_device(), console)
    except SuiteError as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    console.print(f"Report: {written}", markup=False)
    if as_json:
        _print_json({"report": str(written)})


def _print_json(document: dict[str, str | bool]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    app()
