"""The kinds of jobs. One entry here and the function that it names are all that a new kind needs."""

from dataclasses import dataclass
from typing import Final

from app.settings import CPU_QUEUE, GPU_QUEUE, Queue
from app.store.jobs.owners import AUDIT, EDIT, GATE, LANGUAGE_MODEL, STUDY, TEXT_SET, Owner


@dataclass(frozen=True)
class JobKind:
    """What a job does, and where.

    Attributes:
        name: as `jobs.kind` says it.
        owner: what a job of this kind works for.
        queue: `gpu`, or `cpu` if it needs neither a language model nor torch.
        handler: the function that runs it, `module:function`. A worker imports it when it first needs it.
        priority: that of every such job; None where whoever adds one says it.
        enqueues: the queues of the jobs that it may add when it is done: a bell that finds none costs little.
    """

    name: str
    owner: Owner
    queue: Queue
    handler: str
    priority: int | None = None
    enqueues: tuple[Queue, ...] = ()


# Read a checkpoint, pin it, record its digests.
VALIDATE_LANGUAGE_MODEL: Final = JobKind(
    "validate_language_model",
    owner=LANGUAGE_MODEL,
    queue=GPU_QUEUE,
    handler="workers.models.validation:validate_language_model",
    priority=1,
    enqueues=(GPU_QUEUE,),
)
# Fetch the texts of a preset and store them.
IMPORT_TEXT_SET: Final = JobKind(
    "import_text_set",
    owner=TEXT_SET,
    queue=CPU_QUEUE,
    handler="workers.text_sets.importing:import_text_set",
    priority=1,
    enqueues=(GPU_QUEUE,),
)
# Count tokens and cut the text set into shards.
PLAN_AUDIT: Final = JobKind(
    "plan_audit",
    owner=AUDIT,
    queue=GPU_QUEUE,
    handler="workers.audits.plan:plan_audit",
    enqueues=(GPU_QUEUE, CPU_QUEUE),  # shards to score, or to derive
)
# Score texts [start, stop) of a text set.
SCORE_SHARD: Final = JobKind(
    "score_shard",
    owner=AUDIT,
    queue=GPU_QUEUE,
    handler="workers.audits.score:score_shard",
    enqueues=(CPU_QUEUE,),
)
# Write the rows of texts [start, stop) from the evidence of another audit.
DERIVE_SHARD: Final = JobKind(
    "derive_shard",
    owner=AUDIT,
    queue=CPU_QUEUE,
    handler="workers.audits.derive:derive_shard",
    enqueues=(CPU_QUEUE, GPU_QUEUE),  # the summary, or the shard to score after all
)
# Check that the audit is whole, summarise and end it.
SUMMARIZE_AUDIT: Final = JobKind(
    "summarize_audit",
    owner=AUDIT,
    queue=CPU_QUEUE,
    handler="workers.audits.summarize:summarize_audit",
)
# Compare the language models of a study and end it.
FINISH_STUDY: Final = JobKind(
    "finish_study",
    owner=STUDY,
    queue=CPU_QUEUE,
    handler="workers.studies.job:finish_study",
)
# Observe what the rules of a gate ask for, decide and end it.
EVALUATE_GATE: Final = JobKind(
    "evaluate_gate",
    owner=GATE,
    queue=CPU_QUEUE,
    handler="workers.gates.job:evaluate_gate",
)
# Edit a language model, prove what changed, write the artifact; or have its curvature collected first.
RUN_EDIT: Final = JobKind(
    "run_edit",
    owner=EDIT,
    queue=GPU_QUEUE,
    handler="workers.edits.job:run_edit",
    enqueues=(GPU_QUEUE,),
)
# Collect the curvature of an edit's projections over a part of its calibration text.
COLLECT_FACTORS: Final = JobKind(
    "collect_factors",
    owner=EDIT,
    queue=GPU_QUEUE,
    handler="workers.edits.collecting:collect_shard",
    enqueues=(GPU_QUEUE,),
)

KINDS: Final[dict[str, JobKind]] = {
    kind.name: kind
    for kind in (
        VALIDATE_LANGUAGE_MODEL,
        IMPORT_TEXT_SET,
        PLAN_AUDIT,
        SCORE_SHARD,
        DERIVE_SHARD,
        SUMMARIZE_AUDIT,
        FINISH_STUDY,
        EVALUATE_GATE,
        RUN_EDIT,
        COLLECT_FACTORS,
    )
}
