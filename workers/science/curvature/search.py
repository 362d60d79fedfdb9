"""Trying settings of an edit: how much each still recites against what it costs on clean text."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from workers.science.errors import ScoreNotFinite
from workers.science.evaluation.utility import mean_nll
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, default_layers
from workers.science.models.token_blocks import Rows
from workers.science.models.weight_edit import replaced
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput, shares_extracted
from workers.science.statistics.perplexity import perplexity

AUTO_KEEP_MASS: Final = (0.6, 0.7, 0.8, 0.9)
# A setting that costs more than this many times the allowed increase is not measured to the end.
_BEYOND_INTEREST: Final = 3.0

Weights = Sequence[tuple[Projection, Tensor]]


@dataclass(frozen=True)
class Setting:
    """One setting of a K-FAC edit."""

    layers: tuple[int, ...]
    roles: tuple[str, ...]
    keep_mass: float


@dataclass(frozen=True)
class Point:
    """What a setting gives.

    Attributes:
        setting: the setting.
        perplexity: exp(mean NLL) on clean text; None if it was given up because it grew too much.
        perplexity_increase: the share by which it grew, None likewise.
        strict: share of the memorized texts that are still recited; None if given up.
        loose: share of them recited with a similarity of at least 0.75; None if given up.
        feasible: whether perplexity grew by no more than was allowed.
    """

    setting: Setting
    perplexity: float | None
    perplexity_increase: float | None
    strict: float | None
    loose: float | None
    feasible: bool


def automatic_settings(n_layers: int, roles: tuple[str, ...]) -> list[Setting]:
    """The settings that `layers: "auto"` tries: late runs of layers, and all, each with several masses."""
    runs = [default_layers(n_layers), *(list(range(n_layers - count, n_layers)) for count in (1, 2, 3))]
    runs += [list(range(n_layers // 2, n_layers)), list(range(n_layers))]
    unique = dict.fromkeys(tuple(run) for run in runs if run and run[0] >= 0)
    return [Setting(run, roles, mass) for run in unique for mass in AUTO_KEEP_MASS]


@dataclass(frozen=True)
class Objective:
    """What a search weighs: recitation of memorized texts, against perplexity on clean text.

    `memorized` gives the memorized texts a part at a time, anew for each setting. `max_increase` is the share
    by which perplexity may grow.
    """

    memorized: Callable[[], Iterable[Sequence[TextInput]]]
    options: ScoringOptions
    clean: Rows
    max_increase: float


def try_settings(
    language_model: LanguageModel,
    settings: Sequence[Setting],
    weights_of: Callable[[Setting], Weights],
    objective: Objective,
) -> Iterator[Point]:
    """Measure each setting in turn, with its weights in place for just as long.

    A setting is given up as soon as its perplexity must exceed three times the allowed increase: the NLL of
    what is left cannot be negative, so that the bound is exact. So is one whose numbers are not finite.
    """
    base = mean_nll(language_model, objective.clean)
    assert base is not None
    limit = base + math.log1p(objective.max_increase)
    interest = base + math.log1p(_BEYOND_INTEREST * objective.max_increase)
    for setting in settings:
        strict: float | None = None
        loose: float | None = None
        nll: float | None = None
        with replaced(weights_of(setting)), suppress(ScoreNotFinite):
            reached = mean_nll(language_model, objective.clean, stop_above=interest)
            if reached is not None:
                strict, loose = _recitation(language_model, objective)
                nll = reached
        # The base's weights are back before the caller goes on, who may stop here.
        if nll is None:
            yield Point(setting, None, None, None, None, feasible=False)
        else:
            increase = math.expm1(nll - base)
            yield Point(setting, perplexity(-nll), increase, strict, loose, feasible=nll <= limit)


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
    shares = shares_extracted(
        score
        for texts in objective.memorized()
        for score in score_texts(language_model, texts, objective.options)
    )
    return shares["strict"], shares["loose"]
