"""What an edit works on, read from the store: its settings, its base, its texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from app.contracts.audits import AuditOptions, AuditSpec
from app.contracts.edit_methods import METHODS
from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from app.store.core.identifiers import Prefix, parse_id
from app.store.edits import Edit, EditTextSet, text_sets_of
from app.store.jobs.leases import Lease, LeaseLost
from app.store.keyed_digests import digest_of
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lifecycle import begin_operation
from app.store.lineage import Ancestor, lineage_of
from app.store.text_sets import TextSet
from app.store.texts import ClearText, read_page, read_texts
from workers.audits.plan import cut_text_set
from workers.audits.score import scoring_options
from workers.running.runtime import Runtime
from workers.science.models.loading import LanguageModel
from workers.science.scoring.texts import ScoringOptions

# What is not audited is read in pages that are no larger than shards are.
_PAGE_TEXTS: Final = 1000
_PAGE_BYTES: Final = 2**18

# Where edits keep files while they run, under the home directory; a name begins with the edit's id in hex.
SCRATCH: Final = "edits"


@dataclass(frozen=True)
class Shards:
    """The texts of a set, a shard at a time, as often as they are gone through.

    A language model gives the same bits for a shard in an edit's proof as in an audit.
    """

    sessions: sessionmaker[Session]
    text_set_id: UUID
    bounds: Sequence[tuple[int, int]]

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return self.bounds[-1][1]

    def __iter__(self) -> Iterator[list[ClearText]]:
        for start, stop in self.bounds:
            with self.sessions() as session:
                shard = read_texts(session, self.text_set_id, start, stop)
            yield shard


@dataclass(frozen=True)
class EditInputs:
    """An edit as its job reads it."""

    edit_id: UUID
    tenant_id: UUID
    name: str
    spec: EditSpec
    base: LanguageModelRow
    lineage: tuple[Ancestor, ...]  # of the base, itself first
    text_sets: dict[TextSetRole, EditTextSet]
    # How its curvature was collected in shards, if it was.
    collection: dict[str, Any] | None = None
    # What never saw the texts, if the client named it.
    reference: LanguageModelRow | None = None

    @property
    def audit_options(self) -> AuditOptions:
        """How texts are scored, as the audits of the proof say it."""
        evaluation = self.spec.evaluation
        return AuditOptions(
            prefix_tokens=evaluation.prefix_tokens,
            suffix_tokens=evaluation.suffix_tokens,
            token_evidence=False,
            dtype=self.spec.dtype,
            prefix_token=evaluation.prefix_token,
        )

    @property
    def options(self) -> ScoringOptions:
        """How recitation is measured."""
        return scoring_options(AuditSpec(metrics=["extraction"], options=self.audit_options))

    @property
    def clean_is_calibration(self) -> bool:
        """Whether clean text is what was learnt from; both must be given."""
        clean, calibration = (self.text_sets[role] for role in (TextSetRole.CLEAN, TextSetRole.CALIBRATION))
        return clean.text_set_id == calibration.text_set_id

    def pages(self, runtime: Runtime, role: TextSetRole, start: int = 0) -> Iterator[list[ClearText]]:
        """The texts of a role in order from `start` on, a page at a time; none if the role was not given."""
        if role not in self.text_sets:
            return
        text_set_id = self.text_sets[role].text_set_id
        while True:
            with runtime.sessions() as session:
                page = read_page(session, text_set_id, start, limit=_PAGE_TEXTS, max_bytes=_PAGE_BYTES)
            if not page:
                return
            yield page
            start += len(page)

    def texts(self, runtime: Runtime, role: TextSetRole, start: int = 0) -> Iterator[str]:
        """The bare texts of a role in order from `start` on, read as they are asked for."""
        return (row.text for page in self.pages(runtime, role, start) for row in page)

    def shards(
        self,
        runtime: Runtime,
        role: TextSetRole,
        language_model: LanguageModel,
        on_batch: Callable[[], object],
    ) -> Shards:
        """The texts of a role, cut as an audit's are; `on_batch` is called while they are counted."""
        with runtime.sessions() as session:
            text_set = session.get_one(TextSet, self.text_sets[role].text_set_id)
        bounds = cut_text_set(
            runtime,
            text_set,
            language_model.model.num_parameters(),
            self.options.special_tokens,
            lambda: language_model,
            on_batch,
        )
        return Shards(runtime.sessions, text_set.id, bounds)


def begin(runtime: Runtime, lease: Lease) -> EditInputs:
    """Mark the edit as running and read what it needs.

    Raises:
        LeaseLost: the edit was cancelled.
        EditFailed: its method is none that this release knows.
    """
    if lease.edit_id is None:
        raise LeaseLost
    with runtime.sessions.begin() as session:
        base = session.get_one(LanguageModelRow, lease.language_model_id)
        assert base.digest is not None
        edit = begin_operation(session, Edit, lease.edit_id, base.digest)
        text_sets = text_sets_of(session, [edit.id])[edit.id]
        for used in text_sets.values():
            # What a process of an older release requested must not be written down again as it was, nor what
            # was read just before it was keyed.
            used.hmac_sha256 = digest_of(session, session.get_one(TextSet, used.text_set_id))
        spec = _spec_of(edit)
        return EditInputs(
            edit_id=edit.id,
            tenant_id=edit.tenant_id,
            name=edit.name,
            spec=spec,
            base=base,
            lineage=lineage_of(session, base),
            text_sets=text_sets,
            collection=lease.payload.get("collection"),
            reference=_reference_of(session, spec),
        )


def _spec_of(edit: Edit) -> EditSpec:
    """The settings; while releases are changed, those of a later one may come to a worker of this one."""
    if (method := edit.spec["method"]) not in METHODS:
        raise EditFailed(f"This worker knows no edit method {method!r}, only {', '.join(METHODS)}.")
    return EditSpec.model_validate(edit.spec)


def _reference_of(session: Session, spec: EditSpec) -> LanguageModelRow | None:
    """The language model to compare with; the request has seen that it is the tenant's and ready."""
    named = spec.evaluation.reference_model
    return (
        None if named is None else session.get_one(LanguageModelRow, parse_id(Prefix.LANGUAGE_MODEL, named))
    )
