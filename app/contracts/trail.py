"""The audit trail as it is answered and exported, and how its chain is checked.

Each entry holds the digest of the one before it, and its own digest is over all that it says: so whoever
knows the last digest knows that nothing before it was changed, left out, put in or moved.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import JsonValue

from app.contracts.base import Described

# What the first entry is chained to.
BEGINNING: Final = "0" * 64
HEAD_PAYLOAD: Final = "application/vnd.memaudit.trail-head+json"


class TrailEntryOut(Described):
    """Something that somebody did. It names resources by their ids and holds no text."""

    object: Literal["trail_entry"] = "trail_entry"
    id: str
    place: int
    """In the trail of the whole instance, from 1 on. Those between are of other tenants."""
    tenant: str | None
    """Whose it is; null if it concerns the instance."""
    actor: str
    """The id of an API key, `oidc:` and the subject of a signed token, `command-line` or `service`."""
    action: str
    """What was done, as `key.revoked` or `text_set.erased`."""
    subject: str | None
    """The id of what it was done to."""
    facts: dict[str, JsonValue]
    created_at: datetime
    previous_sha256: str
    """`sha256` of the entry at the place before; 64 noughts for the first."""
    sha256: str
    """SHA-256 of all fields but `object` and this one as canonical JSON in UTF-8: keys sorted, no blanks,
    `created_at` in UTC with six digits of its second."""

    def digest(self) -> str:
        """What `sha256` has to be."""
        content = self.model_dump(exclude={"object", "sha256", "created_at"})
        time = self.created_at.astimezone(UTC).replace(tzinfo=None)
        content["created_at"] = time.isoformat(timespec="microseconds") + "Z"
        canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


class TrailHead(Described):
    """The last entry of the trail at a time. Kept elsewhere, it shows later that nothing was cut off."""

    place: int
    """Of the entry; 0 if there was none."""
    sha256: str
    """Of the entry; 64 noughts if there was none."""
    signed_at: datetime


@dataclass(frozen=True)
class Broken:
    """Where a trail is not what it was: at which place, and what was found there."""

    place: int
    found: str


@dataclass(frozen=True)
class Checked:
    """What a check of a trail found.

    Attributes:
        entries: how many were looked at.
        last_sha256: digest of the last that is as it was.
        broken: the first that is not; None if all are.
    """

    entries: int
    last_sha256: str
    broken: Broken | None


def check_chain(
    entries: Iterable[TrailEntryOut], heads: Iterable[TrailHead] = (), *, whole: bool = True
) -> Checked:
    """Look through entries in the order in which they stand.

    Args:
        entries: of the whole instance from the first on, or some of them.
        heads: signed earlier; each has to be one of the entries. Of two for one place that differ one is not.
        whole: whether there may be no gap: false for the entries of one tenant.
    """
    signed: dict[int, set[str]] = {}
    for head in heads:
        signed.setdefault(head.place, set()).add(head.sha256)
    place, last, count = 0, BEGINNING, 0
    for entry in entries:
        found = _fault(entry, place, last, whole=whole)
        if found is None and signed.get(entry.place, set()) - {entry.sha256}:
            found = "written anew: a signed head has another digest"
        if found is not None:
            return Checked(count, last, Broken(place + 1 if whole else entry.place, found))
        place, last, count = entry.place, entry.sha256, count + 1
    if whole and (most := max(signed, default=0)) > place:
        return Checked(count, last, Broken(place + 1, f"cut off: a signed head is of the entry {most}"))
    return Checked(count, last, None)


def _fault(entry: TrailEntryOut, place: int, last: str, *, whole: bool) -> str | None:
    """What is wrong with an entry that stands after a place; None if nothing is."""
    follows = entry.place == place + 1
    if entry.place <= place or (whole and not follows):
        return f"missing, or moved: the entry of place {entry.place} stands here"
    if entry.digest() != entry.sha256:
        return "changed: it is not what its digest is of"
    if follows and entry.previous_sha256 != last:
        return "not chained to the entry before it"
    return None
