"""Finding what the modules of a package bring, so that a new one is a file and nothing else."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def modules_of(package: ModuleType, *, but: str) -> list[ModuleType]:
    """The modules of a package by name, imported, but for the one that asks."""
    names = (f"{package.__name__}.{module.name}" for module in iter_modules(package.__path__))
    return [import_module(name) for name in sorted(names) if name != but]
