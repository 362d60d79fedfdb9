"""All metrics: each module of this package that has a `METRIC` brings one."""

from typing import Final

import workers.science.metrics as package
from workers.science.discovery import modules_of
from workers.science.metrics.metric import Metric

METRICS: Final[dict[str, Metric]] = {
    module.METRIC.name: module.METRIC
    for module in modules_of(package, but=__name__)
    if hasattr(module, "METRIC")
}
