"""Editing: rows in; an edited model, its proof and its files out. Everything is committed at once."""

import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from sqlalchemy.orm import Session
from torch import Tensor

from app import __version__
from app.contracts.edit_methods import METHODS
from app.contracts.edit_methods.registry import COLLECTING
from app.errors import EditFailed, NoSuchPrefixToken
from app.store.core.identifiers import Prefix, format_id
from app.store.edits import active_edits
from app.store.enqueueing import enqueue_collection
from app.store.jobs.leases import Lease
from workers.confined.inspection import inspect_checkpoint
from workers.edits.checkpoint import write_checkpoint
from workers.edits.collecting import plan_collection
from workers.edits.commit import EditResult, commit
from workers.edits.comparison import compare
from workers.edits.documents import write_receipt_and_card
from workers.edits.evaluation import Evaluation
from workers.edits.figures import write_figures
from workers.edits.inputs import SCRATCH, EditInputs, begin
from workers.edits.methods import EditedWeights, find_method
from workers.edits.progress import EditProgress, stages_of_proof
from workers.edits.proof import Proof
from workers.edits.reference import require_comparable
from workers.edits.size import note_size
from workers.models.artifact_files import store_directory
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.errors import PrefixTokenUnusable, ScienceError
from workers.science.models.loading import LanguageModel, load_language_model, probe_tokens
from workers.science.models.weight_edit import replaced
from workers.science.scoring.prefix_token import resolve_prefix_token

JSONObject = dict[str, Any]

# Weights are written in the file's format. Where that or the memory's is a short one, they come back rounded.
_LONG_FORMATS: Final = frozenset({"float32", "float64"})
_TOLERANCE: Final = 1e-5
_ROUNDED_TOLERANCE: Final = 5e-2


def run_edit(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Edit a language model, prove what changed, and store the edited model.

    What is proved is what will be served: the written files are loaded again and measured. An edit that needs
    much curvature is left to shards first, of which the last one enqueues it again.

    Returns:
        How many jobs this enqueued.

    Raises:
        LeaseLost: the edit was cancelled or the lease ran out.
        EditFailed, NoFeasibleSetting: the edit cannot be made from what was given.
        NoSuchPrefixToken: the language model lacks the prefix token.
        ReferenceIsSame: the reference model turned out to be the base.
        StorageFull, StorageUnavailable: the files cannot be kept.
        LanguageModelChanged, LanguageModelRejected, HubUnreachable: see `ModelCache.get`.
    """
    inputs = begin(runtime, lease)
    method = METHODS[inputs.spec.method]
    already = 0 if inputs.collection is None else method.share(COLLECTING)[1]
    stages = {**method.stages, **stages_of_proof(inputs.spec.evaluation)}
    progress = EditProgress(keeper, stages, already)
    progress.enter("loading")
    try:
        with _scratch_directory(runtime, inputs, lease) as directory:
            edit = _Edit(runtime, inputs, progress, directory)
            if shards := plan_collection(runtime, inputs, edit.base, progress):
                return finish(runtime, lease, lambda session: _await(session, inputs, shards))
            result = edit.make()
            return finish(runtime, lease, lambda session: commit(session, inputs, result))
    except PrefixTokenUnusable as error:
        raise NoSuchPrefixToken(error.detail) from None
    except ScienceError as error:
        raise EditFailed(error.detail) from None


def _await(session: Session, inputs: EditInputs, shards: list[JSONObject]) -> int:
    """Enqueue the shards that the edit waits for."""
    enqueue_collection(session, inputs.edit_id, shards)
    return len(shards)


class _Edit:
    """One try at an edit.

    Attributes:
        base: the language model that is edited.
    """

    def __init__(self, runtime: Runtime, inputs: EditInputs, progress: EditProgress, directory: Path) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._progress = progress
        self._began = time.monotonic()
        self._checkpoint, scores = directory / "checkpoint", directory / "scores"
        self._checkpoint.mkdir()
        scores.mkdir()
        self.base = runtime.models.get(inputs.base, inputs.spec.dtype)
        self._prefix_token = resolve_prefix_token(inputs.options.prefix_token, self.base)
        # Begun first: texts that cannot be used fail the edit before it is made.
        self._evaluation = Evaluation(runtime, inputs, self.base, progress, scores)
        require_comparable(runtime, inputs, self.base, self._evaluation.shards)

    def make(self) -> EditResult:
        runtime, inputs, progress = self._runtime, self._inputs, self._progress
        base, evaluation, checkpoint = self.base, self._evaluation, self._checkpoint
        edited = find_method(inputs.spec.method).run(runtime, inputs, base, progress)
        progress.enter("writing")
        written = _write(runtime, inputs, base, edited, checkpoint)
        progress.enter("evaluating")
        before = evaluation.read(base)
        after = evaluation.read(written)
        note_size(runtime, inputs, before)
        proven = Proof(runtime, inputs, evaluation, progress).run((base, written), (before, after))
        compared = compare(inputs, before, after, proven)
        receipt = self._receipt(base, edited)
        figures = write_figures(inputs, receipt, compared, edited.frontier, (before, after), checkpoint)
        write_receipt_and_card(inputs, receipt, compared, figures, checkpoint)
        progress.enter("storing")
        return EditResult(
            receipt=receipt,
            evaluation=compared,
            frontier=edited.frontier,
            prefix_token=self._prefix_token,
            before=before,
            after=after,
            files=store_directory(runtime.blobs, checkpoint, progress.report),
            description=inspect_checkpoint(checkpoint, lambda: progress.report(1, 1)),
        )

    def _receipt(self, base: LanguageModel, edited: EditedWeights) -> JSONObject:
        inputs = self._inputs
        receipt = {
            "method": inputs.spec.method,
            "parameters": edited.parameters,
            "matrices": edited.matrices,
            "warnings": edited.warnings,
            "base": {
                "model": format_id(Prefix.LANGUAGE_MODEL, inputs.base.id),
                "digest": inputs.base.digest,
                "revision": inputs.base.revision,
            },
            "lineage": [asdict(ancestor) for ancestor in inputs.lineage],
            "text_sets": {
                role: {"id": format_id(Prefix.TEXT_SET, used.text_set_id), "hmac_sha256": used.hmac_sha256}
                for role, used in inputs.text_sets.items()
            },
            "seed": inputs.spec.seed,
            "dtype": inputs.spec.dtype,
            "device": base.device.type,
            "code": {
                "memaudit": __version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
            "wall_seconds": round(time.monotonic() - self._began, 3),
            "peak_memory_bytes": _peak_memory(base.device),
        }
        # What a method says of itself must be what its contract promises, or the edit could not be read.
        METHODS[inputs.spec.method].receipt.model_validate(receipt)
        return receipt


def _write(
    runtime: Runtime, inputs: EditInputs, base: LanguageModel, edited: EditedWeights, directory: Path
) -> LanguageModel:
    """Write the edited checkpoint and load it, to see that it comes back as what was in memory."""
    with replaced(edited.weights), runtime.checkpoints.opened(inputs.base) as source:
        parameters = {
            projection.parameter_name: base.model.get_parameter(projection.parameter_name)
            for projection, _ in edited.weights
        }
        files = inputs.base.files or {}
        write_checkpoint(source.directory, files, parameters, base.model.base_model_prefix, directory)
        meant = _logits(base)
    written = load_language_model(directory, dtype=inputs.spec.dtype, tokenizer=base.tokenizer)
    difference = float((_logits(written) - meant).abs().max() / meant.abs().max())
    exact = {inputs.spec.dtype, inputs.base.dtype} <= _LONG_FORMATS
    if not difference <= (_TOLERANCE if exact else _ROUNDED_TOLERANCE):
        raise EditFailed(
            "The written checkpoint gives other logits than the edited model in memory; "
            "this architecture's checkpoints cannot be edited."
        )
    return written


@torch.inference_mode()
def _logits(language_model: LanguageModel) -> Tensor:
    """Logits of a few tokens, on the CPU: what they are compared with may be on another GPU."""
    tokens = probe_tokens(language_model)
    logits: Tensor = language_model.model(input_ids=tokens, use_cache=False).logits.float().cpu()
    return logits


def _peak_memory(device: torch.device) -> int:
    """The most memory that was held so far: of this process, or of its GPUs, each when it held most."""
    if device.type == "cuda":
        return sum(torch.cuda.max_memory_allocated(each) for each in range(torch.cuda.device_count()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _scratch_directory(runtime: Runtime, inputs: EditInputs, lease: Lease) -> Iterator[Path]:
    """An empty directory for this try's files.

    What killed tries left, of this edit or of one that has ended, is removed: they cannot commit.
    """
    parent = runtime.settings.home / SCRATCH
    parent.mkdir(parents=True, exist_ok=True)
    # Looked at first: what another worker begins meanwhile is not among them.
    present = list(parent.iterdir())
    with runtime.sessions() as session:
        others = {edit_id.hex for edit_id in active_edits(session) - {inputs.edit_id}}
    for left in present:
        if left.name.partition("-")[0] not in others:
            shutil.rmtree(left, ignore_errors=True)
    directory = parent / f"{inputs.edit_id.hex}-{lease.epoch}"
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
