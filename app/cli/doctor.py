"""`memaudit doctor`: look at everything that a service needs, and say what is wrong."""

import sys
from typing import Final

import typer

from app.cli.failures import ExitStatus, explained
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.doctor.check import Check, Outcome, Patient, Result, examine
from app.doctor.registry import CHECKS

_MARKS: Final = {Outcome.OK: "ok  ", Outcome.WARN: "WARN", Outcome.FAIL: "FAIL"}
_COLOURS: Final = {
    Outcome.OK: typer.colors.GREEN,
    Outcome.WARN: typer.colors.YELLOW,
    Outcome.FAIL: typer.colors.RED,
}


def doctor(*, as_json: JSONFlag = False) -> None:
    """Find out what is wrong with this set-up and what to do about it.

    Run it where the API or a worker runs, with the same settings and as the same user. It exits with 1 if a
    check fails; warnings do not count.
    """
    with explained():
        patient = Patient(find_settings())
    results = []
    for result in examine(patient, CHECKS, _say_begun):
        results.append(result)
        if not as_json:
            _print(result)
    failed = any(result.finding.outcome is Outcome.FAIL for result in results)
    if as_json:
        print_json({"ok": not failed, "checks": [_document(result) for result in results]})
    if failed:
        raise typer.Exit(ExitStatus.FAILED)


def _say_begun(check: Check) -> None:
    """On a terminal: what is being looked at, until the result takes its place."""
    if sys.stderr.isatty():
        typer.echo(f"...  {check.name}\r", err=True, nl=False)


def _print(result: Result) -> None:
    finding = result.finding
    typer.secho(_MARKS[finding.outcome], fg=_COLOURS[finding.outcome], nl=False)
    typer.echo(f" {result.check.name}: {finding.found}")
    if finding.advice:
        typer.echo(f"     {finding.advice}")


def _document(result: Result) -> dict[str, str]:
    finding = result.finding
    return {
        "check": result.check.name,
        "outcome": finding.outcome,
        "found": finding.found,
        "advice": finding.advice,
    }
