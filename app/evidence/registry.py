"""The formats that there are: every module of `formats` brings one, called `FORMAT`."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Final

from app.evidence import formats
from app.evidence.format import EvidenceFormat


def find_formats() -> dict[str, EvidenceFormat]:
    """The `FORMAT` of every module of the package by name.

    Raises:
        ValueError: a module has none, or two have the same name.
    """
    found: dict[str, EvidenceFormat] = {}
    for module in iter_modules(formats.__path__):
        made = getattr(import_module(f"{formats.__name__}.{module.name}"), "FORMAT", None)
        if not isinstance(made, EvidenceFormat) or made.name in found:
            raise ValueError(f"formats/{module.name} needs a FORMAT with a name of its own")
        found[made.name] = made
    return dict(sorted(found.items()))


FORMATS: Final[Mapping[str, EvidenceFormat]] = MappingProxyType(find_formats())
