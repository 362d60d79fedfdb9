"""The edit methods, one a module, which registers itself; every module of this package is imported."""

from importlib import import_module
from pkgutil import iter_modules

from workers.edits.methods.registry import METHODS, EditedWeights, EditMethod, find_method, register

__all__ = ["METHODS", "EditMethod", "EditedWeights", "find_method", "register"]

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
