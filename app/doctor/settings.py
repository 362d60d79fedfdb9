"""Checks of the settings themselves: names that nobody reads, and values that do not go together."""

import os
import resource
from typing import Final

from app.doctor.check import Check, Finding, Patient, fail, ok, warn
from app.settings import Settings

_PREFIX: Final = "MEMAUDIT_"
# Those that are read elsewhere.
_ALSO_READ: Final = frozenset({"MEMAUDIT_URL", "MEMAUDIT_API_KEY", "MEMAUDIT_SECRETS_DIRECTORY"})
_SHORT_LEASE_SECONDS: Final = 10.0
_FEW_FILES: Final = 1024
_ENOUGH_FILES: Final = 4096


def check_names(_: Patient) -> Finding:
    """A misspelled variable changes nothing, and nobody says so."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields} | _ALSO_READ
    unknown = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known)
    if unknown:
        return warn(
            f"Nobody reads {', '.join(unknown)}.",
            "Correct the names; docs/configuration.md lists all of them.",
        )
    return ok("Every variable that is set is one that is read.")


def check_lease(patient: Patient) -> Finding:
    """A worker that is only slow must not lose its jobs."""
    seconds = patient.settings.lease_seconds
    if seconds < _SHORT_LEASE_SECONDS:
        return warn(
            f"A lease lasts {seconds:g} seconds: a worker that is busy for longer loses its job.",
            "Set MEMAUDIT_LEASE_SECONDS to 60, its default.",
        )
    return ok(f"A lease lasts {seconds:g} seconds.")


def check_files(_: Patient) -> Finding:
    """Each connection and each file that is open takes a descriptor."""
    limit, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = f"Raise it: `ulimit -n {_ENOUGH_FILES}`, or LimitNOFILE of the service."
    if limit < _FEW_FILES:
        return fail(f"A process may have {limit} files and connections open.", advice)
    if limit < _ENOUGH_FILES:
        return warn(
            f"A process may have {limit} files and connections open, too few for many clients.", advice
        )
    return ok(f"A process may have {limit} files and connections open.")


CHECKS: Final = (
    Check("settings", check_names),
    Check("lease", check_lease),
    Check("open files", check_files),
)
