"""Collecting an edit's curvature in shards: several workers take part, each commits its sums once."""

from collections.abc import Callable
from typing import Any

from app.contracts.edit_methods.cost import TRAINING_PASSES
from app.contracts.edit_methods.registry import COLLECTING
from app.contracts.edit_workload import what_is_collected
from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from app.store.jobs.leases import Lease
from app.store.lifecycle import complete_collection
from app.store.text_sets import TextSet
from workers.edits.factors import FactorStore
from workers.edits.inputs import EditInputs, begin
from workers.edits.matrices import matrix_writer
from workers.edits.methods import find_method
from workers.edits.partial_sums import Cut, store_sums
from workers.edits.progress import EditProgress
from workers.edits.tokens import curvature_stream
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.curvature.collection import Part, collect_sums
from workers.science.curvature.factor_hooks import FactorSums
from workers.science.errors import ScienceError
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection

JSONObject = dict[str, Any]


def plan_collection(
    runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
) -> list[JSONObject]:
    """The payloads of the shards in which an edit's curvature is collected; none if it needs no shards.

    Raises:
        EditFailed: see `curvature_stream`.
    """
    learns = find_method(inputs.spec.method).learns_curvature_of
    least = 2 * runtime.settings.collection_shard_tokens
    if learns is None or inputs.collection is not None or _most_tokens(runtime, inputs) < least:
        return []
    missing = FactorStore(runtime, inputs, language_model).missing(learns(inputs.spec, language_model.model))
    if not missing:
        return []
    progress.enter(COLLECTING)
    stream = curvature_stream(runtime, inputs, language_model)
    if len(stream.ids) < least:
        return []
    cut = Cut.of(len(stream), stream.length, runtime.settings.collection_shard_tokens)
    return [
        {
            "shard": shard,
            "place": stream.place(cut.chunks.span(node).start),
            "projections": [projection.key for projection in missing],
            "collection": cut.as_payload(),
        }
        for shard, node in enumerate(cut.shards)
    ]


def _most_tokens(runtime: Runtime, inputs: EditInputs) -> int:
    """As many tokens as the calibration text can have: most cover a byte or more."""
    with runtime.sessions() as session:
        text_set = session.get_one(TextSet, inputs.text_sets[TextSetRole.CALIBRATION].text_set_id)
    return min(text_set.byte_count, inputs.spec.calibration_tokens)


def collect_shard(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Collect the sums of a shard and commit them.

    Returns:
        How many jobs this enqueued: one, the edit itself, if the shard was the last.

    Raises:
        LeaseLost: the edit was cancelled or the lease ran out.
        EditFailed: the curvature is not finite, or the calibration text cannot be used.
        StorageFull, StorageUnavailable: the sums cannot be kept.
        LanguageModelChanged, LanguageModelRejected, HubUnreachable: see `ModelCache.get`.
    """
    inputs = begin(runtime, lease)
    shard, collection = lease.payload["shard"], lease.payload["collection"]
    cut = Cut(**collection)

    def report(done: int, total: int) -> None:
        keeper.report(100 * done // total, stage=COLLECTING)

    report(0, 1)
    language_model = runtime.models.get(inputs.base, inputs.spec.dtype)
    projections = _projections(inputs, language_model, lease.payload["projections"])
    try:
        sums = _collect(runtime, inputs, language_model, projections, lease, cut, report)
    except ScienceError as error:
        raise EditFailed(error.detail) from None
    runtime.meter.note(TRAINING_PASSES * sums.tokens, what_is_collected(inputs.spec), inputs.base)
    with matrix_writer(runtime, inputs, lambda: report(1, 1)) as writer:
        kept = store_sums(writer, sums, projections)
    key = FactorStore(runtime, inputs, language_model).key
    return finish(
        runtime,
        lease,
        lambda session: complete_collection(
            session, inputs.edit_id, shard, key, kept, {"collection": collection}
        ),
    )


def _projections(inputs: EditInputs, language_model: LanguageModel, keys: list[str]) -> list[Projection]:
    """Those that the plan found missing, in their order."""
    learns = find_method(inputs.spec.method).learns_curvature_of
    assert learns is not None
    return [projection for projection in learns(inputs.spec, language_model.model) if projection.key in keys]


def _collect(
    runtime: Runtime,
    inputs: EditInputs,
    language_model: LanguageModel,
    projections: list[Projection],
    lease: Lease,
    cut: Cut,
    report: Callable[[int, int], None],
) -> FactorSums:
    node = cut.shards[lease.payload["shard"]]
    span = cut.chunks.span(node)
    text, skip = lease.payload["place"]
    limit = len(span) * min(inputs.spec.block_tokens, language_model.context_length)
    stream = curvature_stream(runtime, inputs, language_model, (text, skip), limit=limit)
    blocks = sum(len(cut.chunks.blocks_of(leaf)) for leaf in cut.chunks.below(node))
    sums = collect_sums(
        language_model,
        Part(cut.chunks, [node], stream.blocks(), span.start),
        projections,
        labels=inputs.spec.labels,
        seed=inputs.spec.seed,
        on_progress=lambda done: report(done, blocks),
    )
    return sums[node]
