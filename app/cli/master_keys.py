"""`memaudit keys master`, `new-master` and `rotate-master`: the keys that wrap the keys of texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from sqlalchemy.orm import Session, sessionmaker

from app.cli.failures import ExitStatus, explained, fail
from app.cli.found_settings import find_settings
from app.cli.output import JSONFlag, print_json
from app.sealing.keyring import Keyring
from app.sealing.master_keys import MasterKey, keys_of_directory, make_master_key
from app.settings import Settings
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import with_keyring
from app.store.rewrapping import master_keys_needed, rewrap_others, rewrap_text_set_keys
from app.store.trail import COMMAND_LINE, Action, record

_KEYS_AT_ONCE: Final = 500


@contextmanager
def _sessions(settings: Settings, keyring: Keyring) -> Iterator[sessionmaker[Session]]:
    engine = sync_engine(settings.require_database_url())
    try:
        yield sync_sessions(engine, with_keyring(keyring))
    finally:
        engine.dispose()


def master(*, as_json: JSONFlag = False) -> None:
    """Show the master keys: which wraps now, and which are still needed to open what they wrapped."""
    with explained():
        settings = find_settings()
        keyring = Keyring(settings)
        with _sessions(settings, keyring) as sessions, sessions() as session:
            needed = master_keys_needed(session)
        wraps = keyring.wraps_with()
        held = {key.key_id: str(key.path or "a setting") for key in keyring.held()}
    keys: list[dict[str, Any]] = [
        {
            "id": key_id,
            "from": held.get(key_id),
            "wraps_now": key_id == wraps,
            "needed_by": needed[key_id],
        }
        for key_id in dict.fromkeys([wraps, *held, *needed])
    ]
    if as_json:
        print_json(keys)
        return
    for key in keys:
        place = key["from"] or ("the program" if key["id"].startswith("command:") else "MISSING")
        now = ", wraps now" if key["wraps_now"] else ""
        typer.echo(f"{key['id']}  {place}: needed by {key['needed_by']} keys{now}")


def new_master(
    directory: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where the keys are; default MEMAUDIT_MASTER_KEYS."),
    ] = None,
    *,
    as_json: JSONFlag = False,
) -> None:
    """Make the first master key of a directory, without a database; `rotate-master` makes those after it."""
    with explained():
        place = directory or find_settings().master_keys_directory
        if keys_of_directory(place):
            raise fail(
                f"{place} has a key; `memaudit keys rotate-master` makes the next one", ExitStatus.FAILED
            )
        key = _make_key(place)
    if as_json:
        print_json({"id": key.key_id, "from": str(key.path)})
    else:
        typer.echo(f"{key.key_id} is in {key.path}. Keep a copy: without it no text can be read.")


def rotate_master(*, as_json: JSONFlag = False) -> None:
    """Wrap all keys of texts with the newest master key, which is made here if it is one of a directory.

    Everything goes on meanwhile. What was broken off goes on when it is asked for again, with another new
    key. Once `memaudit keys master` says that an old key is needed by none, it can be removed.
    """
    with explained():
        settings = find_settings()
        keyring = Keyring(settings)
        with _sessions(settings, keyring) as sessions:
            with sessions() as session:
                master_keys_needed(session)  # fails on an old schema, or none, before a key is made in vain
            if keyring.makes_keys():
                _make_key(settings.master_keys_directory)
            wraps, count = _rewrap(sessions, keyring)
    if as_json:
        print_json({"id": wraps, "rewrapped": count})
    else:
        typer.echo(f"{wraps} wraps all keys from now on; {count} were wrapped anew.")


def _make_key(directory: Path) -> MasterKey:
    try:
        return make_master_key(directory)
    except OSError as error:
        raise fail(f"no key was made in {directory}: {error}", ExitStatus.FAILED) from error


def _rewrap(sessions: sessionmaker[Session], keyring: Keyring) -> tuple[str, int]:
    wraps, count, after = keyring.wraps_with(), 0, UUID(int=0)
    while True:
        with sessions.begin() as session:
            done = rewrap_text_set_keys(session, wraps, after, _KEYS_AT_ONCE)
        if not done:
            break
        count, after = count + len(done), done[-1]
    with sessions.begin() as session:
        count += rewrap_others(session, wraps)
        record(
            session,
            tenant_id=None,
            actor=COMMAND_LINE,
            action=Action.MASTER_KEY_ROTATED,
            subject=None,
            facts={"master_key": wraps, "rewrapped": count},
        )
    return wraps, count
