"""What was asked for, read back from its rows: the text sets, their tokens, and the jobs that they take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from sqlalchemy.orm import Session

from app.contracts.audits import StoredAuditSpec
from app.contracts.edit_methods.cost import TRAINING_PASSES
from app.contracts.edit_workload import (
    collected_tokens,
    edit_tokens,
    what_is_collected,
    what_is_edited,
)
from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.contracts.workload import Texts, audit_tokens, most_tokens_of_shard, what_is_measured
from app.estimates.schemas import TokensBasis
from app.settings import Settings
from app.store.audits import Audit
from app.store.edits import Edit
from app.store.jobs.kinds import (
    COLLECT_FACTORS,
    FINISH_STUDY,
    PLAN_AUDIT,
    RUN_EDIT,
    SCORE_SHARD,
    SUMMARIZE_AUDIT,
)
from app.store.keyed_digests import digest_of
from app.store.language_models import LanguageModel
from app.store.text_sets import TextSet, TextSetStatus
from app.store.throughput import WorkerClass
from app.store.token_counts import tokens_counted, tokens_per_byte

# What tokenizers of large vocabularies make of English prose: about four bytes a token.
_ASSUMED_TOKENS_PER_BYTE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Counted:
    """A text set under a language model, and how its tokens are known.

    `texts` is None while they are being imported.
    """

    role: str
    language_model: LanguageModel
    text_set: TextSet
    texts: Texts | None
    basis: TokensBasis


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs of a kind: how many, of how many units in all.

    `measured` and `language_model` say what decides how long a unit takes, if that is more than the kind.
    """

    kind: str
    count: int
    units: float
    measured: str = ""
    language_model: LanguageModel | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """All that was asked for.

    Attributes:
        counted: the text sets that are scored.
        jobs: what workers run; None while texts are being imported.
        forward_tokens: tokens that go through models; None likewise.
    """

    counted: Sequence[Counted]
    jobs: Sequence[Jobs] | None
    forward_tokens: float | None


def count_tokens(session: Session, role: str, language_model: LanguageModel, text_set: TextSet) -> Counted:
    """The tokens of a set as the tenant's audits have counted them, or as its bytes let expect."""
    if text_set.status != TextSetStatus.READY:
        return Counted(role, language_model, text_set, None, "unknown")
    tenant_id, digest = text_set.tenant_id, language_model.digest
    tokens: float | None = None
    basis: TokensBasis = "counted"
    if digest is not None:
        tokens = tokens_counted(session, tenant_id, digest, digest_of(session, text_set))
        if tokens is None and (per_byte := tokens_per_byte(session, tenant_id, digest)) is not None:
            tokens, basis = text_set.byte_count * per_byte, "measured"
    if tokens is None:
        tokens, basis = text_set.byte_count * _ASSUMED_TOKENS_PER_BYTE, "assumed"
    return Counted(role, language_model, text_set, Texts(text_set.text_count, tokens), basis)


def work_of_audits(
    session: Session,
    audits: Sequence[tuple[str, Audit]],
    settings: Settings,
    workers: Sequence[WorkerClass],
    *,
    of_study: bool = False,
) -> Work:
    """The work of audits, each in its role, and of the study that compares them; such workers plan it."""
    on_processor = any(each.threads > 0 for each in workers) or not workers
    counted: list[Counted] = []
    jobs: list[Jobs] = []
    forward_tokens = 0.0
    for role, audit in audits:
        language_model = session.get_one(LanguageModel, audit.language_model_id)
        found = count_tokens(session, role, language_model, session.get_one(TextSet, audit.text_set_id))
        counted.append(found)
        if found.texts is not None:
            spec = StoredAuditSpec.model_validate(audit.spec)
            units = audit_tokens(spec.metrics, spec.options, found.texts)
            forward_tokens += units
            jobs += _jobs_of_audit(found, found.texts, units, spec, settings, on_processor=on_processor)
    if any(each.texts is None for each in counted):
        return Work(counted, None, None)
    if of_study:
        jobs.append(Jobs(FINISH_STUDY.name, 1, 0.0))
    return Work(counted, jobs, forward_tokens)


def _jobs_of_audit(
    counted: Counted,
    texts: Texts,
    units: float,
    spec: StoredAuditSpec,
    settings: Settings,
    *,
    on_processor: bool,
) -> Iterable[Jobs]:
    """Planning, which counts the tokens of all but small sets; shards; the summary."""
    size = counted.text_set.byte_count
    most_tokens = most_tokens_of_shard(
        settings.shard_tokens, counted.language_model.parameter_count, on_processor=on_processor
    )
    small = size <= most_tokens
    by_texts = ceil(texts.count / settings.shard_texts)
    shards = by_texts if small else max(by_texts, ceil(texts.tokens / most_tokens))
    yield Jobs(PLAN_AUDIT.name, 1, 0.0 if small else size)
    yield Jobs(SCORE_SHARD.name, shards, units, what_is_measured(spec), counted.language_model)
    yield Jobs(SUMMARIZE_AUDIT.name, 1, texts.count)


def work_of_edit(
    session: Session, edit: Edit, text_sets: dict[TextSetRole, TextSet], settings: Settings
) -> Work:
    """The work of an edit: one job, or with much curvature to collect the shards of that beside it."""
    language_model = session.get_one(LanguageModel, edit.language_model_id)
    counted = [count_tokens(session, role, language_model, text_set) for role, text_set in text_sets.items()]
    texts = {TextSetRole(each.role): each.texts for each in counted if each.texts is not None}
    spec = EditSpec.model_validate(edit.spec)
    units = edit_tokens(spec, texts)
    collected = collected_tokens(spec, texts)
    shards = collected / TRAINING_PASSES / settings.collection_shard_tokens
    if shards < 2:  # noqa: PLR2004 - what one job collects is collected by the edit itself
        return Work(counted, [Jobs(RUN_EDIT.name, 1, units, what_is_edited(spec), language_model)], units)
    jobs = [
        Jobs(COLLECT_FACTORS.name, int(shards), collected, what_is_collected(spec), language_model),
        Jobs(RUN_EDIT.name, 1, units - collected, what_is_edited(spec), language_model),
    ]
    return Work(counted, jobs, units)
