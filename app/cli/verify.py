"""`memaudit verify`: check signed evidence without the service that gave it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import httpx
import orjson
import typer

from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.errors import SigningUnavailable
from app.evidence.verification import Verification, is_receipt
from app.evidence.verification import verify as verify_document
from app.signing.keys import PublicKey, from_json_web_key, read_signing_keys


def verify(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="A document of the format in-toto, or a receipt."),
    ],
    keys: Annotated[
        str | None,
        typer.Option(
            help="The trusted keys: a copy of the service's /.well-known/memaudit-keys.json, or its address; "
            "default: the keys of this machine's service."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="A directory that must hold the files that it is about."
        ),
    ] = None,
    as_json: JSONFlag = False,
) -> None:
    """Check the signature, the digests and the verdict of evidence; the verdict is computed again.

    Nothing is asked of a service, but for keys that are given as an address. The exit status is 0 when every
    check passes, and 1 when one does not.
    """
    with explained():
        verification = verify_document(file.read_bytes(), trusted_keys(keys), model)
    if as_json:
        print_json({"verified": verification.passed, **asdict(verification)})
    else:
        _print(verification)
    if not verification.passed:
        raise typer.Exit(ExitStatus.FAILED)


def _print(verification: Verification) -> None:
    for check in verification.checks:
        typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.found}")
    predicate = verification.statement.get("predicate", {})
    if not verification.passed:
        typer.echo("Not verified.")
    elif is_receipt(verification.statement):
        typer.echo(f"Verified. {predicate['text_set']} was erased at {predicate['erased_at']}.")
    elif predicate:
        typer.echo(f"Verified. The result is {predicate['result']}.")


def trusted_keys(given: str | None) -> Mapping[str, PublicKey]:
    """The keys that may have signed the document, by their ids."""
    if given is None:
        try:
            return read_signing_keys(find_settings().signing_keys_directory).by_id()
        except SigningUnavailable:
            raise fail("there are no keys on this machine; name them with --keys", ExitStatus.USAGE) from None
    try:
        if given.startswith(("https://", "http://")):
            content = httpx.get(given, timeout=30).raise_for_status().content
        else:
            content = Path(given).read_bytes()
    except (OSError, httpx.HTTPError):
        raise fail("the keys cannot be read; check --keys", ExitStatus.UNREACHABLE) from None
    try:
        read = [from_json_web_key(each) for each in orjson.loads(content)["keys"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise fail("--keys does not name a memaudit-keys.json", ExitStatus.USAGE) from None
    return {key.key_id: key for key in read}
