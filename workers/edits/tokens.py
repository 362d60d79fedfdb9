"""The text sets of an edit as tokens. What cannot be used of them fails the edit and names the set."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from workers.edits.inputs import EditInputs
from workers.running.runtime import Runtime
from workers.science.errors import PrefixTokenUnusable, ScienceError
from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import TokenBlocks, TokenRows, TokenStream, stream_texts, text_blocks


def curvature_stream(
    runtime: Runtime,
    inputs: EditInputs,
    language_model: LanguageModel,
    place: tuple[int, int] = (0, 0),
    *,
    role: TextSetRole = TextSetRole.CALIBRATION,
    limit: int | None = None,
) -> TokenStream:
    """The text set of a role laid end to end, up to the calibration tokens that the edit asks for.

    Args:
        runtime: this process.
        inputs: the edit.
        language_model: its base.
        place: where to begin, as `TokenStream.place` tells it.
        role: of the text set that curvature is learnt from.
        limit: tokens from there on, if not all are wanted.

    Raises:
        EditFailed: no text of the set has a token, or one has a token that the model has no row for.
    """
    spec = inputs.spec
    text, skip = place
    with _naming(role):
        return stream_texts(
            language_model,
            inputs.texts(runtime, role, text),
            block_tokens=spec.block_tokens,
            limit=spec.calibration_tokens if limit is None else limit,
            skip=skip,
        )


def curvature_blocks(
    runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, role: TextSetRole
) -> TokenBlocks:
    """All of the text set of a role that the edit asks for, in blocks.

    Raises:
        EditFailed: as `curvature_stream`.
    """
    return curvature_stream(runtime, inputs, language_model, role=role).blocks()


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
        EditFailed: as `curvature_stream`.
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
