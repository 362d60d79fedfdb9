"""The reference model of an edit's proof: can its numbers stand beside those of the edited model?"""

from collections.abc import Mapping

from app.contracts.texts import TextSetRole
from app.errors import EditFailed, ReferenceIsSame
from workers.confined.tokenizer import ConfinedTokenizer
from workers.edits.inputs import EditInputs, Shards
from workers.running.runtime import Runtime
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import token_ids_of


def require_comparable(
    runtime: Runtime, inputs: EditInputs, base: LanguageModel, shards: Mapping[TextSetRole, Shards]
) -> None:
    """Refuse a reference model that is the base, or makes other tokens of the texts, before an edit is made.

    Looked at are the first texts of each set; of the reference only its tokenizer is loaded.

    Raises:
        ReferenceIsSame: it has the same weights and tokenizer as the base.
        EditFailed: it makes other tokens of the texts.
        LanguageModelRejected, HubUnreachable, ArtifactCorrupt, StorageFull, StorageUnavailable: see
            `Checkpoints.opened`.
    """
    reference = inputs.reference
    if reference is None:
        return
    if reference.digest == inputs.base.digest:
        raise ReferenceIsSame(
            "The reference model is the edited one; name another as `evaluation.reference_model`."
        )
    with runtime.checkpoints.opened(reference) as checkpoint:
        tokenizer = ConfinedTokenizer(checkpoint.directory)
    try:
        for each in shards.values():
            texts = [row.text for row in next(iter(each))]
            if token_ids_of(tokenizer, texts) != token_ids_of(base.tokenizer, texts):
                raise EditFailed(
                    "The reference model makes other tokens of the texts than the edited one, so that its "
                    "numbers are of something else; name one with the same tokenizer as "
                    "`evaluation.reference_model`."
                )
    finally:
        tokenizer.close()
