"""Validating a language model: pin it, read it without its weights, record what it is."""

from dataclasses import asdict

from app.store.jobs.leases import Lease, LeaseLost
from app.store.language_models import LanguageModel
from app.store.lifecycle import accept_language_model
from workers.confined.inspection import inspect_checkpoint
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime


def validate_language_model(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Read a checkpoint and mark its language model as ready.

    Returns:
        How many jobs this enqueued: one for each audit that waited.

    Raises:
        LanguageModelRejected: the checkpoint cannot be used.
        HubUnreachable: the hub did not answer.
        ArtifactCorrupt, StorageFull, StorageUnavailable: see `Checkpoints.locate`.
        JobCrashed: the process that read it was killed.
    """
    with runtime.sessions() as session:
        row = session.get(LanguageModel, lease.owner_id)
    if row is None:
        raise LeaseLost
    with runtime.checkpoints.opened(row) as checkpoint:
        description = inspect_checkpoint(checkpoint.directory, lambda: keeper.report(0))
    keeper.report(0)
    facts = {
        "revision": checkpoint.commit,
        "digest": description.digest,
        "files": description.files,
        "architecture": description.architecture,
        "parameter_count": description.parameter_count,
        "context_length": description.context_length,
        "vocabulary_size": description.vocabulary_size,
        "tokenizer": asdict(description.tokenizer),
        "dimensions": None if description.dimensions is None else asdict(description.dimensions),
        "dtype": description.dtype,
    }
    return finish(runtime, lease, lambda session: accept_language_model(session, lease.owner_id, facts))
