"""`client.presets`."""

from typing import Any, Final
from urllib.parse import quote

from memaudit.answers import document, read_as
from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call
from memaudit.types import LanguageModelPreset, PresetList, TextSetPreset

Preset = TextSetPreset | LanguageModelPreset

_PATH: Final = "/v1/presets"


class Presets:
    """Published data sets and language models that the service knows by name."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def list(self) -> list[Preset | dict[str, Any]]:
        """All presets; one of a kind that a newer service added is a dictionary."""
        return (await self._sender.read(PresetList, Call("GET", _PATH))).data

    async def get(self, name: str) -> Preset:
        """A preset by its name, as `hubble/wikipedia`."""
        found = document(await self._sender.send(Call("GET", f"{_PATH}/{quote(name)}")), "object")
        if found["object"] == "text_set_preset":
            return read_as(TextSetPreset, found)
        return read_as(LanguageModelPreset, found)
