"""Checks of disks, of the artifact store and of key files."""

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from app.doctor.check import Check, Finding, Patient, fail, ok, warn
from app.errors import KeyUnavailable, SealBroken, SigningUnavailable, StorageFull, StorageUnavailable
from app.sealing.key_command import PREFIX
from app.sealing.keyring import Keyring
from app.signing.keys import read_signing_keys
from app.store.blobs.objects import objects_at
from app.store.blobs.rows import POSTGRES
from app.store.data_keys import place_of_instance
from app.store.diagnosis import DatabaseFacts

_GIB: Final = 2**30
_LITTLE_BYTES: Final = 5 * _GIB
_NO_BYTES: Final = _GIB // 2
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - looked at, not written to
_SHARED_ENOUGH: Final = 64 * 2**20
_OTHERS_MAY: Final = stat.S_IRWXG | stat.S_IRWXO


def check_home(patient: Patient) -> Finding:
    """Caches, workplaces of edits, and all data of `memaudit up`."""
    return _room(patient.settings.home, "MEMAUDIT_HOME")


def check_temporary(_: Patient) -> Finding:
    """Uploads lie there until they are stored."""
    return _room(Path(tempfile.gettempdir()), "TMPDIR")


def check_shared_memory(_: Patient) -> Finding:
    """Processes of torch hand tensors over there; containers have 64 MB of it unless told otherwise."""
    if not _SHARED_MEMORY.is_dir():
        return warn(f"There is no {_SHARED_MEMORY}.", "Mount one: `--shm-size 1g` of a container.")
    size = shutil.disk_usage(_SHARED_MEMORY)
    if size.total < _SHARED_ENOUGH or size.free < _SHARED_ENOUGH // 2:
        return warn(
            f"{_SHARED_MEMORY} has room for {size.free / 2**20:.0f} MB.",
            "Give it more: `--shm-size 1g` of a container.",
        )
    return ok(f"{_SHARED_MEMORY} has room for {size.free / _GIB:.1f} GiB.")


def _room(directory: Path, name: str) -> Finding:
    place = directory
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return fail(
            f"{directory} cannot be written to.", f"Make it writable, or set {name} to another directory."
        )
    free = shutil.disk_usage(place).free
    found = f"{directory} has room for {free / _GIB:.1f} GiB."
    advice = f"Make room, or set {name} to another disk."
    if free < _NO_BYTES:
        return fail(found, advice)
    return warn(found, advice) if free < _LITTLE_BYTES else ok(found)


def check_artifacts(patient: Patient) -> Finding:
    """Whether an object can be written there, read and deleted again."""
    url = patient.settings.artifact_store
    if url == POSTGRES:
        return ok("Artifacts are in the database.")
    name, content = secrets.token_hex(32), secrets.token_bytes(32)
    try:
        objects = objects_at(url)
        objects.put(name, iter([content]), len(content))
        try:
            read = objects.get(name, 0, len(content))
        finally:
            objects.delete(name)
    except StorageFull:
        return fail(f"{url} is full.", "Make room there: edits fail until there is some.")
    except StorageUnavailable:
        return fail(
            f"{url} cannot be written to and read.",
            "Check MEMAUDIT_ARTIFACT_STORE, the rights there, and of a bucket the AWS_* variables.",
        )
    if read != content:
        return fail(f"{url} gives other bytes than were written.", "Check the disk, or the bucket.")
    return ok(f"{url} can be written to and read.")


def check_signing(patient: Patient) -> Finding:
    """Evidence is signed with a key that only its owner may read."""
    directory = patient.settings.signing_keys_directory
    try:
        keys = read_signing_keys(directory)
    except SigningUnavailable:
        return warn(
            f"{directory} has no key, or one that cannot be read: signed evidence is refused.",
            "Run `memaudit keys rotate-signing`, or set MEMAUDIT_SIGNING_KEYS.",
        )
    private = [path for path in directory.glob("*.pem") if not path.name.endswith(".pub.pem")]
    open_to_others = [path.name for path in private if _others_may(path)]
    if open_to_others:
        return fail(
            f"Others may read {', '.join(sorted(open_to_others))} in {directory}.",
            "Run `chmod 600` on it, then `memaudit keys rotate-signing`: it may have been copied.",
        )
    return ok(f"Evidence is signed with {keys.public[0].key_id}.")


def check_master_keys(patient: Patient) -> Finding:
    """What wraps the keys of texts: it has to be there, for its owner alone, and open what is stored."""
    keyring = Keyring(patient.settings)
    try:
        keyring.require()
    except KeyUnavailable as error:
        if patient.settings.database_url is None and not patient.settings.master_keys_directory.exists():
            return warn(
                "There is no master key yet.", "`memaudit up` or `memaudit keys new-master` makes one."
            )
        return fail(error.detail, "The API and workers do not start until there is one.")
    held = keyring.held()
    files = [key.path for key in held if key.path is not None]
    open_to_others = [path.name for path in files if _others_may(path)]
    if open_to_others:
        return fail(
            f"Others may read {', '.join(sorted(open_to_others))}, with which keys of texts are wrapped.",
            "Run `chmod 600` on it, then `memaudit keys rotate-master`: it may have been copied.",
        )
    return _opens_what_is_stored(patient.database, keyring, {key.key_id for key in held})


def _opens_what_is_stored(database: DatabaseFacts, keyring: Keyring, held: set[str]) -> Finding:
    """By their ids for keys of texts, of which there may be millions; keys of the instance are opened."""
    missing = {
        key_id: number
        for key_id, number in database.master_keys.items()
        if key_id not in held and not (key_id.startswith(PREFIX) and keyring.runs_a_program)
    }
    advice = "Give it back to this process: `memaudit keys master` says where the others are."
    if missing:
        named = ", ".join(f"{key_id} ({number})" for key_id, number in sorted(missing.items()))
        return fail(f"Master keys are not here that wrapped what is stored: {named}.", advice)
    try:
        for name, wrapped in database.instance_keys.items():
            keyring.unwrap(wrapped, place_of_instance(name))
    except (KeyUnavailable, SealBroken) as error:
        return fail(error.detail, advice)
    return ok(f"Master keys open all {database.master_keys.total()} keys that are stored.")


def _others_may(path: Path) -> bool:
    """Whether others than we may use a file.

    What is mounted into a container is root's, and its group's to read: that is how we read it if we are not
    root.
    """
    found = path.stat()
    allowed = stat.S_IRGRP if found.st_uid == 0 and os.geteuid() != 0 else 0
    return bool(found.st_mode & _OTHERS_MAY & ~allowed)


def check_owner_key(patient: Patient) -> Finding:
    """The API key that `memaudit up` keeps for its owner."""
    path = patient.settings.api_key_path
    if not path.exists():
        return ok("There is no key file of `memaudit up`.")
    if _others_may(path):
        return fail(f"Others may read {path}.", "Run `chmod 600` on it, revoke the key and make another.")
    return ok(f"Only its owner may read {path}.")


CHECKS: Final = (
    Check("home", check_home),
    Check("temporary files", check_temporary),
    Check("shared memory", check_shared_memory),
    Check("artifact store", check_artifacts, seconds=60),
    Check("signing keys", check_signing),
    Check("master keys", check_master_keys, seconds=60),
    Check("api key", check_owner_key),
)
