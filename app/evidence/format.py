"""What a format of evidence is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from app.evidence.record import EvidenceRecord, SubjectKind

Render: TypeAlias = Callable[[EvidenceRecord], bytes | Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFormat:
    """A kind of document.

    Attributes:
        name: in the URL.
        title: what it is, for people.
        media_type: of the document, in its envelope if it has one.
        suffix: of its file's name, without the dot.
        render: the document of a record: a pure function that runs in a thread of its own. What has a part
            for each text yields pieces, so that memory stays flat.
        subjects: of what it can be made.
        payload_type: of what `render` gives, if that is bytes to be signed: the document is then the envelope
            with it (see `dsse`). None for what travels bare.
    """

    name: str
    title: str
    media_type: str
    suffix: str
    render: Render
    subjects: frozenset[SubjectKind] = frozenset(SubjectKind)
    payload_type: str | None = None
