"""What a run has seen: work by kind and outcome, faults, and every promise that was broken."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

# More of one kind tell nothing new.
_SHOWN = 40


@dataclass
class Record:
    """Counts of a run, written to by all of its threads."""

    began: float = field(default_factory=time.monotonic)
    work: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ended(self, kind: str, outcome: str) -> None:
        with self._lock:
            self.work[kind, outcome] += 1

    def fault(self, name: str) -> None:
        with self._lock:
            self.faults[name] += 1

    def count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self.counts[what] += times

    def violate(self, what: str) -> None:
        """A promise was broken; each is said once."""
        with self._lock:
            if what in self.violations:
                return
            self.violations.append(what)
        self.say(f"VIOLATION {what}")

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", flush=True)

    def table(self) -> str:
        """All of it, for a person."""
        lines = ["", "faults"]
        lines += [f"  {name:<44}{number:6}" for name, number in sorted(self.faults.items())]
        lines += [f"  {name:<44}  skipped: {why}" for name, why in sorted(self.skipped.items())]
        lines += [f"  {'all':<44}{sum(self.faults.values()):6}", "", "work"]
        lines += [
            f"  {kind:<18}{outcome:<26}{number:6}" for (kind, outcome), number in sorted(self.work.items())
        ]
        lines += [f"  {'all':<44}{sum(self.work.values()):6}", "", "seen"]
        lines += [f"  {name:<44}{number:6}" for name, number in sorted(self.counts.items())]
        lines += ["", f"violations: {len(self.violations)}"]
        lines += [f"  {each}" for each in self.violations[:_SHOWN]]
        return "\n".join(lines)
