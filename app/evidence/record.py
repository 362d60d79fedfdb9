"""All that a document about finished work can say, read once and in one snapshot.

A format gets a record and asks for nothing else. Per-text rows are read as they are asked for; texts are in a
record only if the request asks for them and its key may read them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

import orjson
from pydantic import BaseModel

from app.audits.schemas import AuditOut
from app.audits.score_schemas import ScoreOut
from app.edits.schemas import EditOut
from app.evidence.controls import ControlMappings
from app.gates.schemas import GateOut
from app.policies.preregistration import Preregistration
from app.policies.schemas import PolicyOut
from app.store.texts import ClearText
from app.studies.schemas import StudyOut

Work: TypeAlias = AuditOut | StudyOut | EditOut
Resource: TypeAlias = Work | GateOut
# How many of the most memorized texts a record names.
MOST_WORST: Final = 20


class SubjectKind(StrEnum):
    """What evidence is about."""

    AUDIT = "audit"
    STUDY = "study"
    EDIT = "edit"
    GATE = "gate"


class ModelRole(StrEnum):
    """What a language model is to the work."""

    AUDITED = "audited"  # of an audit
    REFERENCE = "reference"  # of an audit or an edit: it never saw the texts
    STUDIED = "studied"  # one of a study's, with its label
    BASE = "base"  # of an edit
    EDITED = "edited"  # what an edit made


class AuditRole(StrEnum):
    """What an audit is to the work."""

    AUDITED = "audited"  # the audit itself
    STUDIED = "studied"  # of one of a study's language models
    BEFORE = "before"  # of an edit's base; its label is the role of the text set
    AFTER = "after"  # of the edited model, likewise
    CONTROL = "control"  # of the control texts: a companion
    REFERENCE = "reference"  # under the reference model: a companion
    REFERENCE_CONTROL = "reference_control"  # both: a companion


COMPANIONS: Final = frozenset({AuditRole.CONTROL, AuditRole.REFERENCE, AuditRole.REFERENCE_CONTROL})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """A file by its path within the model or artifact.

    Attributes:
        path: with slashes, relative.
        sha256: hexadecimal.
        size: in bytes; None where it was not recorded (of models that are no artifacts).
    """

    path: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedModel:
    """A language model in its role, as it was when the work used it.

    Attributes:
        role: what it is to the work.
        label: as a study calls it, else the role.
        id: public.
        source: `hub`, `path` or `artifact`.
        name: the hub's repository, `tenant/name` of an edited model, the last part of a path.
        revision: the pinned commit; None for a path.
        digest: SHA-256 over the names and digests of its files, hexadecimal.
        base_model: what it was derived from, by id; None if it is no edit.
        architecture: the class that its configuration names.
        parameters: how many weights.
        context_length: in tokens.
        vocabulary_size: in tokens.
        dtype: of the weights in its files.
        files: by path.
    """

    role: ModelRole
    label: str
    id: str
    source: str
    name: str
    revision: str | None
    digest: str | None
    base_model: str | None
    architecture: str | None
    parameters: int | None
    context_length: int | None
    vocabulary_size: int | None
    dtype: str | None
    files: tuple[RecordedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTextSet:
    """A text set in its role: how many texts and which digest, never a text.

    Attributes:
        role: `audited` or `control` of an audit and a study, a `TextSetRole` of an edit.
        id: public.
        name: as the client calls it.
        hmac_sha256: of the texts and their facts in order under a key of the tenant, hexadecimal, as the work
            recorded it.
        texts: how many.
        bytes: of all texts in UTF-8.
        group_counts: texts by `group`, of those that have one.
        duplicate_counts: texts by known number of insertions.
        preset: the preset that it was imported from; None if it was uploaded.
        revision: the commit that an import pinned.
        erased: whether the texts are gone.
    """

    role: str
    id: str
    name: str
    hmac_sha256: str
    texts: int
    bytes: int
    group_counts: dict[str, int]
    duplicate_counts: dict[str, int]
    preset: str | None
    revision: str | None
    erased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedArtifact:
    """The files that an edit wrote.

    Attributes:
        id: public.
        name: of the edited model.
        model_repo: what hub clients call it.
        revision: its commit for hub clients.
        manifest_sha256: of what `sha256sum` prints for the files, sorted by path.
        total_bytes: of all files.
        files: by path; empty once it was deleted.
        deleted: whether it was.
    """

    id: str
    name: str
    model_repo: str
    revision: str
    manifest_sha256: str
    total_bytes: int
    files: tuple[RecordedFile, ...]
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAudit:
    """An audit that the numbers come from.

    Attributes:
        role: what it is to the work.
        label: of the study's language model, or the role of the edit's text set; else the role.
        resource: the audit itself.
    """

    role: AuditRole
    label: str
    resource: AuditOut


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedGate:
    """A gate that was decided on the work.

    Attributes:
        gate: as the API answers it: every rule with what was observed and what that came to.
        policy: the policy that it asked.
        preregistration: what was written down before the first score; None if the work did not name the
            policy when it was asked for.
    """

    gate: GateOut
    policy: PolicyOut
    preregistration: Preregistration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRow:
    """One text under one audit.

    Attributes:
        score: its numbers.
        member: whether it was in the training data, as uploaded; None where that is not known, and once the
            texts were erased.
        text: the text with its facts; None unless texts are allowed and still there.
    """

    score: ScoreOut
    member: bool | None
    text: ClearText | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstText:
    """One of the most memorized texts.

    Attributes:
        audit: the id of the audit that scored it.
        row: its numbers, and the text if that is allowed.
    """

    audit: str
    row: RecordedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecord:
    """Finished work with all that a document can say about it.

    Attributes:
        kind: what the evidence is about.
        id: of that, public.
        resource: that itself, as the API answers it.
        work: the audit, study or edit that was judged: `resource` itself unless that is a gate.
        models: the language models, in the order of the work.
        text_sets: the text sets by role.
        artifact: what an edit wrote; None of other work.
        audits: where the numbers come from: the audit and its companions, the study's audits and those of its
            controls, or those before and after the edit.
        gates: the gates on the work that were decided, oldest first; of a gate that one alone.
        controls: which controls of frameworks the rules bear on, as the operator maps them.
        worst: the texts that are most strongly memorized by `nl`, at most `MOST_WORST`, most strongly first:
            of the audit, of the last language model of a study, of the memorized texts before an edit.
        texts: whether texts are in `worst` and in rows.
        software: the release of this service.
        finished_at: when the work ended; documents have no other clock.
        rows: the rows of one of `audits` by its id, in the order of the texts, read in pages while they are
            iterated. Called only in the thread that renders.
    """

    kind: SubjectKind
    id: str
    resource: Resource
    work: Work
    models: tuple[RecordedModel, ...]
    text_sets: tuple[RecordedTextSet, ...]
    artifact: RecordedArtifact | None
    audits: tuple[RecordedAudit, ...]
    gates: tuple[RecordedGate, ...]
    controls: ControlMappings
    worst: tuple[WorstText, ...]
    texts: bool
    software: str
    finished_at: datetime
    rows: Callable[[str], Iterator[RecordedRow]]

    @property
    def principal_audits(self) -> tuple[RecordedAudit, ...]:
        """The audits whose rows are the result: all but companions and controls."""
        return tuple(audit for audit in self.audits if audit.role not in COMPANIONS)

    def canonical(self) -> bytes:
        """Everything but the rows, which follow from it, as JSON with sorted keys."""
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "rows"}
        return orjson.dumps(parts, default=to_plain, option=orjson.OPT_SORT_KEYS)


def to_plain(value: object) -> object:
    """A part of a record that is no dataclass, as `orjson.dumps` asks for it.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)
