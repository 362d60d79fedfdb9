"""Searching settings. Oracles: transformers' loss and `generate` on a copy whose weights are overwritten."""

import copy
import math

import pytest
import torch
from rapidfuzz.distance import Levenshtein

from workers.science.curvature.search import (
    AUTO_KEEP_MASS,
    MOST_PROBES,
    Objective,
    Point,
    Setting,
    automatic_settings,
    best,
    least_mass,
    try_settings,
)
from workers.science.errors import RecoveryDiverged
from workers.science.models.projections import find_projections
from workers.science.models.token_blocks import text_blocks
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(metrics=frozenset({"extraction"}), token_evidence=False)
ROLES = ("gate", "up")
# What `faded` makes of them: nothing, some mistakes in one layer or in both, and ruin.
SETTINGS = [
    Setting((0, 1), ROLES, 1.0),
    Setting((1,), ("up",), 0.3),
    Setting((1,), ROLES, 0.5),
    Setting((0, 1), ("up",), 0.6),
    Setting((0,), ROLES, 0.5),
]


@pytest.fixture(scope="module")
def clean(reciting, recited_texts):
    """The texts that it recites: here every change costs something."""
    return text_blocks(reciting, recited_texts, max_tokens=60)


@pytest.fixture(scope="module")
def memorized(recited_texts):
    return [TextInput(text) for text in recited_texts]


def faded(model, setting):
    """In the place of an edit: the chosen weights, times the mass."""
    return [
        (projection, projection.weight * setting.keep_mass)
        for projection in find_projections(model, layers=setting.layers, roles=setting.roles)
    ]


def faded_copy(language_model, setting):
    model = copy.deepcopy(language_model.model)
    with torch.no_grad():
        for layer in setting.layers:
            for role in setting.roles:
                model.get_parameter(f"model.layers.{layer}.mlp.{role}_proj.weight").mul_(setting.keep_mass)
    return model


@torch.inference_mode()
def perplexity_by_transformers(model, clean):
    blocks = clean.part(range(len(clean)))
    labels = blocks.ids.masked_fill(~blocks.mask, -100)
    return math.exp(model(blocks.ids, labels=labels, use_cache=False).loss)


@torch.inference_mode()
def recitation_by_transformers(model, language_model, texts):
    """Shares of texts whose tokens 64 to 112 are generated, wholly and with a similarity of at least 0.75."""
    similarities = []
    for text in texts:
        ids = language_model.tokenizer(text.text)["input_ids"][:112]
        prompt = torch.tensor([ids[:64]])
        said = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=48, pad_token_id=0
        )[0, 64:]
        similarities.append(1 - Levenshtein.distance(said.tolist(), ids[64:]) / 48)
    n = len(texts)
    return sum(value == 1 for value in similarities) / n, sum(value >= 0.75 for value in similarities) / n


@pytest.fixture(scope="module")
def exact(reciting, clean):
    """Perplexities by transformers: the base's, and each setting's."""
    base = perplexity_by_transformers(reciting.model, clean)
    return base, [perplexity_by_transformers(faded_copy(reciting, setting), clean) for setting in SETTINGS]


def points_of(language_model, memorized, clean, max_increase, settings=SETTINGS):
    objective = Objective(lambda: [memorized], OPTIONS, clean, max_increase)
    return try_settings(
        language_model, settings, lambda setting: faded(language_model.model, setting), objective
    )


def test_a_setting_whose_weights_cannot_be_made_finite_is_given_up(reciting, memorized, clean):
    """As one whose recovery diverges; the others are measured."""
    bits = {name: value.clone() for name, value in reciting.model.state_dict().items()}

    def weights_of(setting):
        if setting == SETTINGS[1]:
            raise RecoveryDiverged("recovery_diverged", "")
        return faded(reciting.model, setting)

    objective = Objective(lambda: [memorized], OPTIONS, clean, 1e6)
    points = list(try_settings(reciting, SETTINGS[:3], weights_of, objective))
    assert [point.perplexity is None for point in points] == [False, True, False]
    assert not points[1].feasible
    assert all(torch.equal(value, bits[name]) for name, value in reciting.model.state_dict().items())


def test_a_point_is_what_transformers_says_of_a_model_with_these_weights(reciting, memorized, clean, exact):
    base, perplexities = exact
    points = list(points_of(reciting, memorized, clean, 1e6))
    assert [point.setting for point in points] == SETTINGS
    for point, perplexity in zip(points, perplexities, strict=True):
        assert point.perplexity == pytest.approx(perplexity, rel=1e-5)
        assert point.perplexity_increase == pytest.approx(perplexity / base - 1, rel=1e-4, abs=1e-5)
        model = faded_copy(reciting, point.setting)
        assert (point.strict, point.loose) == recitation_by_transformers(model, reciting, memorized)
    assert points[0].perplexity_increase == 0
    assert len({point.strict for point in points}) > 2
    assert any(point.strict != point.loose for point in points)


@pytest.mark.parametrize("max_increase", [1e6, 0.0])
def test_a_setting_is_measured_with_just_its_weights(reciting, memorized, clean, max_increase):
    """Also a setting that is given up leaves the base's own bits behind, before the next one is asked for."""
    bits = {name: value.clone() for name, value in reciting.model.state_dict().items()}

    def changed():
        return {
            name
            for name, value in reciting.model.state_dict().items()
            if not torch.equal(value.view(torch.int32), bits[name].view(torch.int32))
        }

    seen = []
    hook = reciting.model.base_model.register_forward_pre_hook(lambda *_: seen.append(changed()))
    given_up = 0
    try:
        for point in points_of(reciting, memorized, clean, max_increase, SETTINGS[1:]):
            assert changed() == set()
            names = {
                f"model.layers.{layer}.mlp.{role}_proj.weight"
                for layer in point.setting.layers
                for role in point.setting.roles
            }
            measured = [place for place in seen if place]
            assert measured
            assert all(place == names for place in measured)
            seen.clear()
            given_up += point.perplexity is None
    finally:
        hook.remove()
    assert given_up == (0 if max_increase else len(SETTINGS[1:]))


def test_a_failure_in_the_middle_of_a_setting_leaves_the_bits_of_the_base(
    reciting, memorized, clean, monkeypatch
):
    bits = {name: value.clone() for name, value in reciting.model.state_dict().items()}

    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("workers.science.curvature.search.score_texts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(points_of(reciting, memorized, clean, 1e6, [SETTINGS[3]]))
    assert all(torch.equal(value, bits[name]) for name, value in reciting.model.state_dict().items())


def test_a_setting_whose_numbers_are_not_finite_is_given_up(reciting, memorized, clean):
    def broken(setting):
        return [(p, torch.full_like(weight, torch.nan)) for p, weight in faded(reciting.model, setting)]

    objective = Objective(lambda: [memorized], OPTIONS, clean, 1e6)
    (point,) = try_settings(reciting, SETTINGS[3:4], broken, objective)
    assert (point.perplexity, point.strict, point.feasible) == (None, None, False)


@pytest.mark.parametrize("max_increase", [0.0, 0.01, 0.05, 1.0, 30.0])
def test_only_what_costs_beyond_interest_is_given_up(reciting, memorized, clean, exact, max_increase):
    base, perplexities = exact
    points = list(points_of(reciting, memorized, clean, max_increase))
    for point, perplexity in zip(points, perplexities, strict=True):
        given_up = perplexity > base * (1 + 3 * max_increase)
        numbers = (point.perplexity, point.perplexity_increase, point.strict, point.loose)
        assert [number is None for number in numbers] == [given_up] * 4
        assert (point.given_up is not None) == given_up
        assert point.feasible == (perplexity <= base * (1 + max_increase))


def test_the_bounds_are_the_allowed_increase_and_thrice_that(reciting, memorized, clean, exact):
    """The bounds are moved to either side of what one setting costs."""
    base, perplexities = exact
    setting, cost = SETTINGS[3], perplexities[3] / base - 1
    for share, measured, feasible in (
        (1.001, True, True),
        (0.999, True, False),
        (1.001 / 3, True, False),
        (0.999 / 3, False, False),
    ):
        (point,) = points_of(reciting, memorized, clean, cost * share, [setting])
        assert (point.perplexity is not None, point.feasible) == (measured, feasible)


def test_a_setting_that_is_given_up_says_how_far_it_was(reciting, memorized, clean, exact):
    """Oracle: transformers' perplexity of the longest text, which was enough to give it up."""
    base, _ = exact
    (point,) = points_of(reciting, memorized, clean, 0.0, [SETTINGS[3]])
    so_far = point.given_up
    assert 0 < so_far.tokens < so_far.of_tokens == clean.predictions
    longest = sorted(range(len(clean)), key=lambda row: -int(clean.lengths[row]))
    read = next(n for n in range(1, len(clean) + 1) if clean.part(longest[:n]).predictions == so_far.tokens)
    faded_perplexity = perplexity_by_transformers(
        faded_copy(reciting, SETTINGS[3]), clean.part(longest[:read])
    )
    assert math.exp(so_far.mean) == pytest.approx(faded_perplexity, rel=1e-5)
    assert math.exp(so_far.mean) > base


def adapted(language_model, clean, max_increase, **objective):
    """The masses that are tried of what costs more the less is kept."""
    setting = Setting((1,), ("up",), None)
    aim = Objective(None, OPTIONS, clean, max_increase, **objective)
    return list(try_settings(language_model, [setting], lambda one: faded(language_model.model, one), aim))


def cost(language_model, clean, mass):
    return perplexity_by_transformers(faded_copy(language_model, Setting((1,), ("up",), mass)), clean)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_the_mass_is_adapted_to_the_constraint(reciting, clean, share):
    """Oracle: transformers, of the chosen mass and of one that drops an eighth more."""
    base = cost(reciting, clean, 1.0)
    allowed = share * (cost(reciting, clean, 0.6) / base - 1)
    assert allowed > 0
    points = adapted(reciting, clean, allowed)
    assert [point.setting.keep_mass for point in points[:2]] == [0.6, 0.999]
    assert 3 < len(points) == MOST_PROBES
    chosen = least_mass(points)
    mass = chosen.setting.keep_mass
    assert cost(reciting, clean, mass) <= base * (1 + allowed) < cost(reciting, clean, 1 - 1.125 * (1 - mass))
    assert all(point.strict is None and point.loose is None for point in points)


def test_the_mass_of_the_paper_is_enough_where_it_keeps_the_constraint(reciting, clean):
    (point,) = adapted(reciting, clean, 1e6)
    assert (point.setting.keep_mass, point.feasible) == (0.6, True)


def test_where_nearly_all_of_the_mass_is_not_enough_nothing_less_is_tried(reciting, clean):
    points = adapted(reciting, clean, 0.0)
    assert [point.setting.keep_mass for point in points] == [0.6, 0.999]
    assert least_mass(points) is None


def test_what_retained_text_loses_is_measured_and_may_decide(reciting, clean):
    """Oracle: transformers. The text that is to be retained is the one that it recites."""
    drop = math.log(cost(reciting, clean, 0.6) / cost(reciting, clean, 1.0))
    (point,) = adapted(reciting, clean, 1e6, retained=clean)
    assert point.nl_drop == pytest.approx(drop, rel=1e-3)
    (kept,) = adapted(reciting, clean, 1e6, retained=clean, max_nl_drop=1.001 * drop)
    assert kept.feasible
    first, *others = adapted(reciting, clean, 1e6, retained=clean, max_nl_drop=0.999 * drop)
    assert (first.setting.keep_mass, first.feasible) == (0.6, False)
    assert least_mass(others).nl_drop <= 0.999 * drop


def test_texts_that_cannot_be_recited_have_no_share(reciting, clean):
    texts = [TextInput(""), TextInput("a")]
    (point,) = points_of(reciting, texts, clean, 1.0, [SETTINGS[0]])
    assert (point.strict, point.loose) == (None, None)
    assert point.feasible


def point(perplexity, strict, loose, *, feasible=True, mass=0.6):
    return Point(Setting((0,), ROLES, mass), perplexity, 0.1, strict, loose, feasible)


LEAST_STRICT = point(9.0, 0.1, 0.9)
LEAST_LOOSE = point(8.0, 0.2, 0.3)
LEAST_COSTLY = point(5.0, 0.2, 0.4)
INFEASIBLE = point(4.0, 0.0, 0.0, feasible=False)
GIVEN_UP = point(None, None, None, feasible=False)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([LEAST_LOOSE, LEAST_STRICT, LEAST_COSTLY], LEAST_STRICT),
        ([LEAST_COSTLY, LEAST_LOOSE], LEAST_LOOSE),
        ([point(6.0, 0.2, 0.4), LEAST_COSTLY, point(7.0, 0.2, 0.4)], LEAST_COSTLY),
        ([INFEASIBLE, GIVEN_UP, LEAST_COSTLY], LEAST_COSTLY),
        ([point(3.0, None, None), point(2.0, None, None, mass=0.9)], point(2.0, None, None, mass=0.9)),
        ([INFEASIBLE, GIVEN_UP], None),
        ([], None),
    ],
)
def test_the_best_recites_least_and_then_costs_least(points, expected):
    assert best(points) == expected
    assert best(points[::-1]) == expected


@pytest.mark.parametrize(
    ("n_layers", "runs"),
    [
        (1, [(0,)]),
        (2, [(1,), (0, 1)]),
        (4, [(3,), (2, 3), (1, 2, 3), (0, 1, 2, 3)]),
        (6, [(4, 5), (5,), (3, 4, 5), (0, 1, 2, 3, 4, 5)]),
        (32, [(23, 24, 25), (31,), (30, 31), (29, 30, 31), tuple(range(16, 32)), tuple(range(32))]),
    ],
)
def test_automatic_settings_are_late_runs_and_all_layers(n_layers, runs):
    settings = automatic_settings(n_layers, ROLES)
    assert AUTO_KEEP_MASS == (0.6, 0.7, 0.8, 0.9)
    assert [(setting.layers, setting.keep_mass) for setting in settings] == [
        (run, mass) for run in runs for mass in (0.6, 0.7, 0.8, 0.9)
    ]
    assert {setting.roles for setting in settings} == {ROLES}
