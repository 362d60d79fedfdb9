"""Which models and texts the scorer is measured on, beside whom, and what must be reached."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.scoring_workload import build_micro_model, build_pythia_model


class Target(NamedTuple):
    """A ratio of times, that of `slow` contenders together over that of `fast`, and what it must reach."""

    name: str
    slow: tuple[str, ...]
    fast: str
    at_least: float


class Share(NamedTuple):
    """The share of the matrix rate that a part, or the whole scorer, must reach."""

    part: str
    at_least: float


class Setting(NamedTuple):
    """A model, the lengths of its texts in characters, who contends, and what must be reached."""

    name: str
    build: Callable[[Path], Path]
    characters: tuple[int, int]
    texts: int
    contenders: tuple[str, ...]
    targets: tuple[Target, ...]
    shares: tuple[Share, ...]


HARNESS_BOTH = ("harness", "harness, continuations")
AGAINST_HARNESS = Target("scorer against lm-evaluation-harness", ("harness",), "scorer", 0.0)
AGAINST_LOOP = Target("scorer against a plain loop", ("loop",), "scorer", 0.0)
# What a scorer can be beside its peers follows from the share of the matrix rate that they reach.
MICRO_TARGETS = (
    AGAINST_HARNESS,
    AGAINST_LOOP,
    Target("NL + strict + p_z in one pass against lm-evaluation-harness", HARNESS_BOTH, "one pass", 0.0),
    Target("the same with similarity and loose decoded", HARNESS_BOTH, "one pass, decoded", 0.0),
    # At most 15 % on top.
    Target("NL alone against NL with membership", ("scorer",), "membership", 1 / 1.15),
)
PYTHIA_TARGETS = (
    AGAINST_HARNESS,
    AGAINST_LOOP,
    Target("NL alone against NL + strict + p_z + Min-K%++", ("scorer",), "all metrics", 1 / 1.15),
)
FEW = ("scorer", "loop", "harness")
PYTHIA_SHARES = (Share("head", 0.90), Share("whole", 0.82))
SETTINGS = (
    Setting(
        "4M, 40 to 1,000 characters",
        build_micro_model,
        (40, 1000),
        800,
        (*FEW, "one pass", "one pass, decoded", "all metrics, evidence", "membership", HARNESS_BOTH[1]),
        MICRO_TARGETS,
        (Share("whole", 0.62),),
    ),
    Setting(
        "4M, 4,000 characters", build_micro_model, (4000, 4000), 100, FEW, (AGAINST_HARNESS, AGAINST_LOOP), ()
    ),
    Setting(
        "160M, 40 to 1,000 characters",
        build_pythia_model,
        (40, 1000),
        60,
        (*FEW, "all metrics"),
        PYTHIA_TARGETS,
        PYTHIA_SHARES,
    ),
    Setting(
        "160M, 4,000 characters",
        build_pythia_model,
        (4000, 4000),
        8,
        FEW,
        (AGAINST_HARNESS, AGAINST_LOOP),
        PYTHIA_SHARES,
    ),
)
