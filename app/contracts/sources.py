"""Where a language model's checkpoint comes from."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from app.contracts.base import TAG_MARK, Contract, _without_nul


def _without_steps_up(revision: str) -> str:
    if ".." in revision:
        raise PydanticCustomError("revision_invalid", "No branch, tag or commit has two dots in its name")
    return revision


class HubSource(Contract):
    """A repository on a Hugging Face hub. The worker pins `revision` to a commit."""

    type: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?$")]
    revision: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][\w./-]{0,199}$"), AfterValidator(_without_steps_up)
    ] = "main"


class PathSource(Contract):
    """A directory on the workers' disk, under one of the allow-listed roots."""

    type: Literal["path"]
    path: Annotated[str, Field(max_length=4096, pattern="^/"), AfterValidator(_without_nul)]


class ArtifactSource(Contract):
    """An edited language model's files. Only the service writes it: clients name the language model."""

    type: Literal["artifact"] = "artifact"
    artifact: Annotated[str, Field(pattern=r"^art_[0-9a-f]{32}$")]


def _source_tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return TAG_MARK + ("path" if kind == "path" else "hub")


def _reference_tag(value: Any) -> str:
    return TAG_MARK + "id" if isinstance(value, str) else _source_tag(value)


_TaggedHub = Annotated[HubSource, Tag("tag:hub")]
_TaggedPath = Annotated[PathSource, Tag("tag:path")]
Source = Annotated[_TaggedHub | _TaggedPath, Discriminator(_source_tag)]
# A language model by its id, or by a source that is registered on the way.
LanguageModelReference = Annotated[
    Annotated[str, Field(max_length=100), Tag("tag:id")] | _TaggedHub | _TaggedPath,
    Discriminator(_reference_tag),
]
