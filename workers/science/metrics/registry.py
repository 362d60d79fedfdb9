"""All metrics: each module of this package that has a `METRIC` brings one."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import workers.science.metrics as package
from workers.science.metrics.metric import Metric

_SELF: Final = __name__.rpartition(".")[2]


def _find_metrics() -> dict[str, Metric]:
    names = sorted(module.name for module in iter_modules(package.__path__) if module.name != _SELF)
    modules = [import_module(f"{package.__name__}.{name}") for name in names]
    return {module.METRIC.name: module.METRIC for module in modules if hasattr(module, "METRIC")}


METRICS: Final[dict[str, Metric]] = _find_metrics()
