"""All measurements: each module of this package that has a `MEASUREMENT` brings one."""

from typing import Final

import workers.science.measurements as package
from workers.science.discovery import modules_of
from workers.science.measurements.measurement import Measurement

MEASUREMENTS: Final[dict[str, Measurement]] = {
    module.MEASUREMENT.name: module.MEASUREMENT
    for module in modules_of(package, but=__name__)
    if hasattr(module, "MEASUREMENT")
}
