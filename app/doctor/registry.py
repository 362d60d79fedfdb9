"""All checks, in the order in which they are run: what others need comes first."""

from typing import Final

from app.doctor import disks, servers, settings, workers
from app.doctor.check import Check

CHECKS: Final[tuple[Check, ...]] = (*settings.CHECKS, *servers.CHECKS, *disks.CHECKS, *workers.CHECKS)
