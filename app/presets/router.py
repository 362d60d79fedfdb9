"""`/v1/presets`."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.contracts.catalogue import LANGUAGE_MODEL_PRESETS, TEXT_SET_PRESETS
from app.contracts.presets import LanguageModelPreset, TextSetPreset
from app.errors import NotFound
from app.http.dependencies import AuditReader

router = APIRouter(prefix="/v1/presets", tags=["presets"])

Preset = Annotated[TextSetPreset | LanguageModelPreset, Field(discriminator="object")]


class PresetList(BaseModel):
    """All presets: data sets first, then language models."""

    object: Literal["list"] = "list"
    data: list[Preset]
    has_more: Literal[False] = False
    next_cursor: None = None


@router.get("")
async def list_presets(_: AuditReader) -> PresetList:
    """List the published data sets and language models that this release knows, all in one answer.

    Workers fetch them from the hub when they are asked for. What is listed was not fetched by that.
    """
    return PresetList(data=[*TEXT_SET_PRESETS.values(), *LANGUAGE_MODEL_PRESETS.values()])


@router.get("/{family}/{preset}")
async def read_preset(family: str, preset: str, _: AuditReader) -> Preset:
    """Read a preset, whose name is `family/preset`: where it comes from, and what of it an audit reads."""
    name = f"{family}/{preset}"
    found = TEXT_SET_PRESETS.get(name) or LANGUAGE_MODEL_PRESETS.get(name)
    if found is None:
        raise NotFound("There is no such preset.")
    return found
