"""What lists are narrowed by. A filter that names nothing gives an empty list; a malformed one is refused."""

import re
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request

from app.contracts.base import CleanStr
from app.errors import FieldError, ValidationFailed
from app.store.core.identifiers import Prefix, parse_id
from app.store.operations import OperationFilter, OperationStatus

MAX_METADATA_FILTERS: Final = 8
_MAX_CHARS: Final = 500
# As OpenAPI's `deepObject` writes an object into a query.
_METADATA_KEY: Final = re.compile(r"metadata\[([^\[\]\0]{1,500})\]")


def _id_query(prefix: Prefix, noun: str) -> Any:
    return Query(pattern=rf"^{prefix}_[0-9a-fA-F]{{32}}$", description=f"The id of a {noun}, `{prefix}_…`.")


LanguageModelIdQuery = Annotated[str | None, _id_query(Prefix.LANGUAGE_MODEL, "language model")]
TextSetIdQuery = Annotated[str | None, _id_query(Prefix.TEXT_SET, "text set")]
PolicyIdQuery = Annotated[str | None, _id_query(Prefix.POLICY, "policy")]
SubjectIdQuery = Annotated[
    str | None,
    Query(pattern=r"^(aud|std|edt)_[0-9a-fA-F]{32}$", description="The id of an audit, a study or an edit."),
]
NameQuery = Annotated[CleanStr | None, Query(max_length=200)]
PresetQuery = Annotated[
    CleanStr | None, Query(max_length=200, description="The name of a preset, as `hubble/wikipedia`.")
]

METADATA_PARAMETER: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "example": {},  # or interactive pages would fill in some
            "description": "`metadata[key]=value`: resources whose metadata has this string, number or "
            f"boolean under this key. Up to {MAX_METADATA_FILTERS}, all of which must hold.",
            "schema": {
                "type": "object",
                "maxProperties": MAX_METADATA_FILTERS,
                "additionalProperties": {"type": "string", "maxLength": _MAX_CHARS},
            },
        }
    ]
}


def _metadata(request: Request) -> dict[str, str]:
    """The `metadata[key]=value` parameters.

    Raises:
        ValidationFailed: one is malformed or doubled, or there are too many.
    """
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if not name.startswith("metadata"):
            continue
        match = _METADATA_KEY.fullmatch(name)
        if match is None or len(value) > _MAX_CHARS or "\0" in value or match[1] in wanted:
            raise _refused("invalid_metadata_filter")
        wanted[match[1]] = value
    if len(wanted) > MAX_METADATA_FILTERS:
        raise _refused("too_many_metadata_filters")
    return wanted


def _refused(code: str) -> ValidationFailed:
    return ValidationFailed(
        f"Filter by metadata as metadata[key]=value, each key once, {MAX_METADATA_FILTERS} at most.",
        [FieldError("/metadata", code)],
    )


MetadataQuery = Annotated[dict[str, str], Depends(_metadata)]


def _operation_filter(
    metadata: MetadataQuery,
    model: LanguageModelIdQuery = None,
    text_set: TextSetIdQuery = None,
    status: OperationStatus | None = None,
) -> OperationFilter:
    return OperationFilter(
        language_model_id=parse_id(Prefix.LANGUAGE_MODEL, model) if model else None,
        text_set_id=parse_id(Prefix.TEXT_SET, text_set) if text_set else None,
        status=status,
        metadata=metadata,
    )


# Of audits by what was audited on which texts; of edits by the base and any text set that they use.
WantedOperations = Annotated[OperationFilter, Depends(_operation_filter)]
