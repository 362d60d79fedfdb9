"""What a format of evidence is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from app.evidence.record import EvidenceRecord, SubjectKind

# Bytes, or what `finish` makes bytes of.
Piece: TypeAlias = Any
Render: TypeAlias = Callable[[EvidenceRecord], Piece | Iterator[Piece]]


def _id(record: EvidenceRecord) -> str:
    return record.id


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
        finish: makes bytes of each piece that is none yet: a pure function that runs in a child process, for
            what holds the interpreter, takes much memory or may not end. Pieces are pickled; a child imports
            its module and theirs, so let these import little. None where `render` gives bytes.
        subjects: of what it can be made.
        stem: of its file's name, before the suffix: the id of the subject unless tools expect another.
        payload_type: of what `render` gives, if that is bytes to be signed: the document is then the envelope
            with it (see `dsse`). None for what travels bare.
    """

    name: str
    title: str
    media_type: str
    suffix: str
    render: Render
    finish: Callable[[Any], bytes] | None = None
    subjects: frozenset[SubjectKind] = frozenset(SubjectKind)
    stem: Callable[[EvidenceRecord], str] = _id
    payload_type: str | None = None
