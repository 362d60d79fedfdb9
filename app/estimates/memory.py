"""What has to be in memory at once, and whether any class of workers has so much."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from app.contracts.audits import StoredAuditSpec
from app.contracts.edit_workload import Dimensions, edit_bytes
from app.contracts.edits import EditSpec
from app.errors import DoesNotFit, FieldError
from app.estimates.schemas import Memory
from app.settings import GPU_QUEUE
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, parse_id
from app.store.edits import Edit
from app.store.language_models import LanguageModel
from app.store.throughput import WorkerClass, most_memory_lately

_BYTES: Final = {"float32": 4, "bfloat16": 2}
_LOGIT_BYTES: Final = 4
_GIB: Final = 2**30
_UNKNOWN: Final = Memory(bytes_needed=None, weights_bytes=None, working_bytes=None)


@dataclass(frozen=True, slots=True)
class Held:
    """A language model in memory: in which dtype, and for which edit if it is for one.

    `beside` is how many parameters the edit's reference model has.
    """

    language_model: LanguageModel
    dtype: str
    edit: EditSpec | None = None
    pointer: str = "/model"
    beside: int = 0


# Where a request names the language model of an audit in a role.
_POINTERS: Final = {
    "reference": "/reference_model",
    "reference_control": "/reference_model",
    "model": "/models",
}


def held_by_audits(session: Session, audits: Sequence[tuple[str, Audit]]) -> list[Held]:
    """What audits hold, each in its role."""
    return [
        Held(
            session.get_one(LanguageModel, audit.language_model_id),
            StoredAuditSpec.model_validate(audit.spec).options.dtype,
            pointer=_POINTERS.get(role, "/model"),
        )
        for role, audit in audits
    ]


def held_by_edit(session: Session, edit: Edit) -> list[Held]:
    """What an edit holds: of a reference model too, which is loaded beside the others at the end."""
    spec = EditSpec.model_validate(edit.spec)
    base = session.get_one(LanguageModel, edit.language_model_id)
    named = spec.evaluation.reference_model
    if named is None:
        return [Held(base, spec.dtype, spec)]
    reference = session.get_one(LanguageModel, parse_id(Prefix.LANGUAGE_MODEL, named))
    return [
        Held(base, spec.dtype, spec, beside=reference.parameter_count or 0),
        Held(reference, spec.dtype, pointer="/evaluation/reference_model"),
    ]


def memory_of(held: Sequence[Held]) -> Memory:
    """What the largest of several language models takes; unknown if one of them was not validated yet."""
    each = [_memory_of(one) for one in held]
    if any(memory.bytes_needed is None for memory in each):
        return _UNKNOWN
    return max(each, key=lambda memory: memory.bytes_needed or 0)


def _memory_of(held: Held) -> Memory:
    row = held.language_model
    if row.parameter_count is None or row.vocabulary_size is None:
        return _UNKNOWN
    weights, logits = row.parameter_count * _BYTES[held.dtype], row.vocabulary_size * _LOGIT_BYTES
    if held.edit is None:
        return Memory(bytes_needed=weights + logits, weights_bytes=weights, working_bytes=logits)
    method = 0 if row.dimensions is None else edit_bytes(held.edit, Dimensions(**row.dimensions))
    # The method works on the base; later the written model is measured beside it, and a reference model.
    measured = 2 * weights + held.beside * _BYTES[held.dtype]
    needed = max(weights + method, measured + logits)
    return Memory(bytes_needed=needed, weights_bytes=measured, working_bytes=max(method, logits))


def fits(memory: Memory, worker: WorkerClass) -> bool | None:
    """Whether a class of workers has so much memory; None if it is not known how much is needed."""
    return None if memory.bytes_needed is None else memory.bytes_needed <= worker.memory_bytes


def fits_any(memory: Memory, workers: Sequence[WorkerClass]) -> bool | None:
    """Whether some class has so much memory; None if that is not known, or there is no class."""
    if memory.bytes_needed is None or not workers:
        return None
    return any(fits(memory, worker) for worker in workers)


def require_room(session: Session, held: Sequence[Held]) -> None:
    """Refuse work on a language model that no worker can hold. What is not known is no reason to refuse.

    Raises:
        DoesNotFit: it takes more memory than any class of workers has that was seen lately.
    """
    needs = [(each, _memory_of(each).bytes_needed or 0) for each in held]
    most = most_memory_lately(session, GPU_QUEUE, max((needed for _, needed in needs), default=0))
    for each, needed in needs:
        if most is not None and needed > most:
            raise DoesNotFit(
                f"This needs at least {needed / _GIB:.3g} GiB of memory, and the largest worker has "
                f"{most / _GIB:.3g}. Ask for bfloat16, name a smaller language model, or start a worker with "
                "more memory.",
                [FieldError(each.pointer, "does_not_fit")],
            )
