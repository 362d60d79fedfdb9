"""What single measurements are asked for: a field of `MeasurementOptions` for each that has options."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOptions:
    """Windows over a document (arXiv 2505.12546): prefix, suffix and the way to the next one, in tokens."""

    prefix_tokens: int = 50
    suffix_tokens: int = 50
    stride: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NearVerbatimOptions:
    """How near is near, as a share of the suffix' tokens that are right, and how many beams look for it."""

    similarity: float = 0.95
    beams: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementOptions:
    """The options of all measurements."""

    windows: WindowOptions = field(default_factory=WindowOptions)
    near_verbatim: NearVerbatimOptions = field(default_factory=NearVerbatimOptions)
