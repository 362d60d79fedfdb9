"""What single measurements are asked for: a field of `MeasurementOptions` for each that has options."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementOptions:
    """The options of all measurements."""
