"""Trying settings of an edit: how much each still recites against what it costs on clean text."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from workers.science.errors import ScoreNotFinite
from workers.science.evaluation.utility import MeanNLL, mean_nll, measure_nll
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, default_layers
from workers.science.models.token_blocks import Rows
from workers.science.models.weight_edit import replaced
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput, shares_extracted
from workers.science.statistics.perplexity import perplexity

AUTO_KEEP_MASS: Final = (0.6, 0.7, 0.8, 0.9)
# Between these an adapted mass is looked for; the least is that of arXiv 2510.24256.
LEAST_KEEP_MASS: Final = 0.6
_MOST_KEEP_MASS: Final = 0.999
# So often is the interval of masses halved: the mass dropped is found to a tenth of itself.
_HALVINGS: Final = 6
# How many masses are tried at most.
MOST_PROBES: Final = _HALVINGS + 2
# A setting that costs more than this many times the allowed increase is not measured to the end.
_BEYOND_INTEREST: Final = 3.0

Weights = Sequence[tuple[Projection, Tensor]]


@dataclass(frozen=True)
class Setting:
    """One setting of a K-FAC edit.

    `keep_mass` is None where it is to be adapted: the search then tries several. `retain_weight` is the
    weight of the retained text in the curvature, `recovery_steps` how long the edited matrices are trained
    on it.
    """

    layers: tuple[int, ...]
    roles: tuple[str, ...]
    keep_mass: float | None
    retain_weight: float = 0.0
    recovery_steps: int = 0


@dataclass(frozen=True)
class Point:
    """What a setting gives.

    Attributes:
        setting: the setting.
        perplexity: exp(mean NLL) on clean text; None if it was given up because it grew too much.
        perplexity_increase: the share by which it grew, None likewise.
        strict: share of the memorized texts that are still recited; None if given up, or none were given.
        loose: share of them recited with a similarity of at least 0.75; None likewise.
        feasible: whether neither perplexity nor the retained text lost more than was allowed.
        nl_drop: by how many nats per token the retained text became less likely; None if given up, or none
            was given.
        given_up: how far the clean text had been gone through; None if it was to the end, or if a number was
            not finite.
    """

    setting: Setting
    perplexity: float | None
    perplexity_increase: float | None
    strict: float | None
    loose: float | None
    feasible: bool
    nl_drop: float | None = None
    given_up: MeanNLL | None = None


def automatic_settings(
    n_layers: int, roles: tuple[str, ...], retain_weight: float = 0.0, recovery_steps: int = 0
) -> list[Setting]:
    """The settings that `layers: "auto"` tries: late runs of layers, and all, each with several masses."""
    runs = [default_layers(n_layers), *(list(range(n_layers - count, n_layers)) for count in (1, 2, 3))]
    runs += [list(range(n_layers // 2, n_layers)), list(range(n_layers))]
    unique = dict.fromkeys(tuple(run) for run in runs if run and run[0] >= 0)
    return [
        Setting(run, roles, mass, retain_weight, recovery_steps) for run in unique for mass in AUTO_KEEP_MASS
    ]


@dataclass(frozen=True)
class Objective:
    """What a search weighs: recitation of memorized texts, against perplexity on clean text.

    `memorized` gives the memorized texts a part at a time, anew for each setting; None without any aim.
    `max_increase` is the share by which perplexity may grow, `max_nl_drop` by how many nats per token the
    `retained` text may become less likely.
    """

    memorized: Callable[[], Iterable[Sequence[TextInput]]] | None
    options: ScoringOptions
    clean: Rows
    max_increase: float
    retained: Rows | None = None
    max_nl_drop: float | None = None


def try_settings(
    language_model: LanguageModel,
    settings: Sequence[Setting],
    weights_of: Callable[[Setting], Weights],
    objective: Objective,
) -> Iterator[Point]:
    """Measure each setting in turn, with its weights in place for just as long.

    A setting is given up as soon as its perplexity must exceed three times the allowed increase: the NLL of
    what is left cannot be negative, so that the bound is exact. So is one whose numbers are not finite. Of a
    setting without a mass several masses are measured, see `_adapting`.
    """
    base = mean_nll(language_model, objective.clean)
    retained = None if objective.retained is None else mean_nll(language_model, objective.retained)

    def measured(setting: Setting) -> Point:
        # The base's weights are back before the caller goes on, who may stop here.
        with suppress(ScoreNotFinite), replaced(weights_of(setting)):
            return _measured(language_model, setting, objective, base, retained)
        return Point(setting, None, None, None, None, feasible=False)

    for setting in settings:
        if setting.keep_mass is None:
            yield from _adapting(setting, measured)
        else:
            yield measured(setting)


def _measured(
    language_model: LanguageModel, setting: Setting, objective: Objective, base: float, retained: float | None
) -> Point:
    """What the weights that are in place give, against mean NLLs of the base."""
    interest = base + math.log1p(_BEYOND_INTEREST * objective.max_increase)
    reached = measure_nll(language_model, objective.clean, stop_above=interest)
    if reached.exceeded:
        return Point(setting, None, None, None, None, feasible=False, given_up=reached)
    strict, loose = _recitation(language_model, objective)
    drop: float | None = None
    if objective.retained is not None and retained is not None:
        drop = mean_nll(language_model, objective.retained) - retained
    keeps = drop is None or objective.max_nl_drop is None or drop <= objective.max_nl_drop
    return Point(
        setting,
        perplexity(-reached.mean),
        math.expm1(reached.mean - base),
        strict,
        loose,
        feasible=keeps and reached.mean <= base + math.log1p(objective.max_increase),
        nl_drop=drop,
    )


def _adapting(setting: Setting, measured: Callable[[Setting], Point]) -> Iterator[Point]:
    """Look for the least mass that is feasible, between that of the paper and nearly all.

    The logarithm of the mass that is dropped is halved: what a large model can spare is a small part of the
    whole, and is told to the same share of itself. If nearly all is not enough, nothing less can be, and it
    ends there.
    """

    def at(mass: float) -> Point:
        return measured(replace(setting, keep_mass=mass))

    least = at(LEAST_KEEP_MASS)
    yield least
    if least.feasible:
        return
    most = at(_MOST_KEEP_MASS)
    yield most
    if not most.feasible:
        return
    kept, lost = 1 - _MOST_KEEP_MASS, 1 - LEAST_KEEP_MASS
    for _ in range(_HALVINGS):
        dropped = math.sqrt(kept * lost)
        point = at(round(1 - dropped, 4))
        yield point
        if point.feasible:
            kept = dropped
        else:
            lost = dropped


def least_mass(points: Sequence[Point]) -> Point | None:
    """The feasible setting that keeps the least mass: the choice where nothing is aimed at."""
    feasible = [point for point in points if point.feasible]
    return min(feasible, key=lambda point: point.setting.keep_mass or 0.0, default=None)


def best(points: Sequence[Point]) -> Point | None:
    """The feasible setting that recites least, strictly, then loosely; of equals the one that costs least."""
    feasible = [point for point in points if point.feasible]
    return min(
        feasible,
        key=lambda point: (point.strict or 0.0, point.loose or 0.0, point.perplexity or 0.0),
        default=None,
    )


@torch.no_grad()
def _recitation(language_model: LanguageModel, objective: Objective) -> tuple[float | None, float | None]:
    if objective.memorized is None:
        return None, None
    shares = shares_extracted(
        score
        for texts in objective.memorized()
        for score in score_texts(language_model, texts, objective.options)
    )
    return shares["strict"], shares["loose"]
