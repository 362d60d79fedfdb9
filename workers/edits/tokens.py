"""The text sets of an edit as tokens. What cannot be used of them fails the edit and names the set."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from workers.edits.inputs import EditInputs
from workers.running.runtime import Runtime
from workers.science.errors import PrefixTokenUnusable, ScienceError
from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import TokenBlocks, TokenRows, pack_texts, text_blocks


def curvature_blocks(runtime: Runtime, inputs: EditInputs, language_model: LanguageModel) -> TokenBlocks:
    """The calibration set packed into blocks, up to the tokens that the edit asks for.

    Raises:
        EditFailed: no text of the set has a token, or one has a token that the model has no row for.
    """
    spec, role = inputs.spec, TextSetRole.CALIBRATION
    with _naming(role):
        return pack_texts(
            language_model,
            inputs.texts(runtime, role),
            block_tokens=spec.block_tokens,
            limit=spec.calibration_tokens,
        )


def token_rows(
    runtime: Runtime,
    inputs: EditInputs,
    language_model: LanguageModel,
    role: TextSetRole,
    *,
    max_tokens: int | None = None,
    limit: int | None = None,
) -> TokenRows:
    """The texts of a role as rows of up to `max_tokens` (by default the context), and of `limit` in all.

    Before each stands what stands there when it is scored.

    Raises:
        EditFailed: as `curvature_blocks`.
    """
    with _naming(role):
        return text_blocks(
            language_model,
            inputs.texts(runtime, role),
            max_tokens=max_tokens or language_model.context_length,
            limit=limit,
            prefix_token=inputs.options.prefix_token,
        )


@contextmanager
def _naming(role: TextSetRole) -> Iterator[None]:
    try:
        yield
    except PrefixTokenUnusable:
        raise
    except ScienceError as error:
        raise EditFailed(f"The {role} text set cannot be used. {error.detail}") from None
