"""The load as threads, and what each piece of it found compared with what it finds without faults."""

import random
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from tests.chaos.client import Client, Ledger, Refused, Unanswered
from tests.chaos.fleet import Fleet
from tests.chaos.inputs import Inputs
from tests.chaos.record import Record
from tests.chaos.work import SCRIPTS, Failed

# How work may end that was hit too often, or while there was no room, or with what it was made for or of.
_OF_FAULTS: Final = frozenset({"attempts-exhausted", "storage-full", "companion-failed", "subject-failed"})

Reference = Mapping[str, Any]


def unfaulted(fleet: Fleet, inputs: Inputs, record: Record) -> dict[str, Any]:
    """All numbers of every script, run once with nothing in its way."""
    client = Client(fleet.urls, fleet.key, record, Ledger(), "reference")
    found = {}
    for script in SCRIPTS:
        began = time.monotonic()
        found[script.name] = script.run(client, inputs)
        record.say(f"reference: {script.name}, {time.monotonic() - began:.1f} s")
    client.close()
    return found


class Customer(threading.Thread):
    """Runs scripts one after another until it is told to stop, and checks what each found."""

    def __init__(
        self, fleet: Fleet, inputs: Inputs, reference: Reference, record: Record, ledger: Ledger, seed: str
    ) -> None:
        super().__init__(name=f"customer {seed}", daemon=True)
        self._dice = random.Random(seed)
        self._client = Client(fleet.urls, fleet.key, record, ledger, seed)
        self._inputs = inputs
        self._reference = reference
        self._record = record
        self._enough = threading.Event()

    def stop(self) -> None:
        """Finish what is begun, and begin nothing more."""
        self._enough.set()

    def run(self) -> None:
        while not self._enough.is_set():
            (script,) = self._dice.choices(SCRIPTS, [script.weight for script in SCRIPTS])
            try:
                found = script.run(self._client, self._inputs)
            except Failed as failed:
                self._failed(script.name, failed)
            except (Refused, Unanswered) as error:
                self._record.ended(script.name, type(error).__name__.lower())
                self._record.violate(f"{script.name}: {error}")
            except Exception as error:  # noqa: BLE001 - a defect of the load itself must not pass for a rest
                self._record.violate(f"{script.name}: the load broke: {error!r}")
            else:
                self._compare(script.name, found)
        self._client.close()

    def _failed(self, name: str, failed: Failed) -> None:
        self._record.ended(name, f"failed, {failed.problem}")
        if failed.problem not in _OF_FAULTS and not failed.of_attempts:
            self._record.violate(f"{name}: {failed}")

    def _compare(self, name: str, found: Any) -> None:
        if found == self._reference[name]:
            self._record.ended(name, "succeeded, same numbers")
        else:
            self._record.ended(name, "succeeded, WRONG")
            self._record.violate(f"{name}: {difference(self._reference[name], found)}")


def difference(expected: Any, found: Any, where: str = "") -> str:
    """The first place where two documents differ; texts are not quoted."""
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        for key, value in expected.items():
            if value != found[key]:
                return difference(value, found[key], f"{where}.{key}")
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for place, (one, other) in enumerate(zip(expected, found, strict=True)):
            if one != other:
                return difference(one, other, f"{where}[{place}]")
    return f"{where}: {str(found)[:80]} in place of {str(expected)[:80]}"
