"""What a client may ask of an edit: strict, closed, and refused before anything is done."""

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from app.contracts.edit_methods.kfac import Sweep, adapts_keep_mass
from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.edits.schemas import EditCreate

MODEL = {"model": "mdl_0", "name": "forgetful"}
CALIBRATED = {**MODEL, "calibration_text_set": "txs_calibration"}
AIMED = {**CALIBRATED, "forget_text_set": "txs_forget"}
KFAC = {**CALIBRATED, "method": "kfac"}
SVD = {**MODEL, "method": "svd"}
SUBNET = {**AIMED, "method": "balanced_subnet"}
SWEEP = {"keep_mass": [0.6, 0.9]}
RETAINED = {"retain_text_set": "txs_retain"}


def refusal(body: dict[str, Any]) -> tuple[str, tuple[int | str, ...]]:
    """The code of the only error, and where it is."""
    with pytest.raises(ValidationError) as failure:
        EditCreate.model_validate(body)
    (error,) = failure.value.errors()
    return str(error["type"]), tuple(part for part in error["loc"] if not str(part).startswith("tag:"))


@pytest.mark.parametrize(
    "body",
    [
        KFAC,
        SVD,
        SUBNET,
        {**AIMED, "method": "kfac", "sweep": SWEEP},
        {**AIMED, "method": "kfac", "layers": "auto"},
        {**KFAC, "layers": [0, 31], "projections": ["gate", "up", "down", "q", "k", "v", "qkv", "o"]},
        {**SVD, "calibration_text_set": "txs_calibration", "rank_ratio": {"q": 1.0}, "layers": [3]},
        {**KFAC, "model": {"type": "hub", "repo": "allegrolab/hubble-1b"}},
        {**KFAC, "keep_mass": 1},
        {**KFAC, "keep_mass": 1e-9},
        {**KFAC, "constraint": {"max_perplexity_increase": 0.1}},
        {**KFAC, **RETAINED},
        {**KFAC, **RETAINED, "retain_weight": 0, "constraint": {"max_nl_drop": 0.2}},
        {**KFAC, **RETAINED, "recovery": {"steps": 30, "rank": None, "learning_rate": 0.01}},
        {**AIMED, **RETAINED, "method": "kfac", "sweep": {"recovery_steps": [0, 30]}},
        {**AIMED, **RETAINED, "method": "kfac", "sweep": {"retain_weight": [0, 0.1, 1]}},
        {**AIMED, **RETAINED, "method": "kfac", "layers": "auto"},
    ],
)
def test_a_whole_request_is_accepted(body: dict[str, Any]) -> None:
    assert EditCreate.model_validate(body).method == body["method"]


OWN_PARAMETERS: dict[str, dict[str, Any]] = {
    "kfac": {
        "keep_mass": 0.6,
        "retain_text_set": "txs_retain",
        "retain_weight": 0.1,
        "recovery": {},
        "labels": "sampled",
        "sweep": SWEEP,
        "constraint": {"max_perplexity_increase": 0.2},
        "calibration_tokens": 1000,
        "block_tokens": 64,
    },
    "balanced_subnet": {
        "balanced_subnet": {"ratio": 0.01},
        "calibration_tokens": 1000,
        "block_tokens": 64,
    },
    "svd": {"rank_ratio": {"gate": 0.5}},
}


@pytest.mark.parametrize("method", OWN_PARAMETERS)
@pytest.mark.parametrize(
    ("owner", "parameter"), [(owner, name) for owner, own in OWN_PARAMETERS.items() for name in own]
)
def test_a_parameter_belongs_to_its_method_alone(method: str, owner: str, parameter: str) -> None:
    """Also when it has its default value: it would not do what it says."""
    body = {**AIMED, "method": method, parameter: OWN_PARAMETERS[owner][parameter]}
    if parameter == "constraint" and method == "kfac":
        body["sweep"] = SWEEP
    if parameter in {"retain_weight", "recovery"}:
        body |= RETAINED
    if parameter in OWN_PARAMETERS[method]:
        assert parameter in EditCreate.model_validate(body).model_fields_set
    else:
        assert refusal(body) == ("parameter_of_another_method", ())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**AIMED, "method": "svd", "layers": "auto"}, "search_needs_kfac"),
        ({**SUBNET, "layers": "auto"}, "search_needs_kfac"),
        ({**AIMED, "method": "kfac", "layers": "auto", "sweep": SWEEP}, "auto_with_sweep"),
        ({**SVD, "projections": ["up", "q"]}, "rank_ratio_missing"),
        ({**SVD, "projections": ["up"], "rank_ratio": {"down": 0.3}}, "rank_ratio_unused"),
        ({**MODEL, "method": "kfac"}, "calibration_missing"),
        ({**MODEL, "method": "balanced_subnet", "forget_text_set": "txs_forget"}, "calibration_missing"),
        ({**KFAC, "sweep": SWEEP}, "forget_set_missing"),
        ({**KFAC, "sweep": {}}, "forget_set_missing"),
        ({**KFAC, "layers": "auto"}, "forget_set_missing"),
        ({**CALIBRATED, "method": "balanced_subnet"}, "forget_set_missing"),
        # What is measured is not what a search aims at.
        (
            {
                **KFAC,
                "layers": "auto",
                "evaluation": {"memorized_text_set": "txs_a", "clean_text_set": "txs_b"},
            },
            "forget_set_missing",
        ),
        ({**MODEL, "method": "kfac", "evaluation": {"clean_text_set": "txs_b"}}, "calibration_missing"),
        ({**AIMED, "method": "kfac", "layers": "auto", "keep_mass": 0.6}, "auto_with_keep_mass"),
        (
            {**KFAC, "keep_mass": 0.6, "constraint": {"max_perplexity_increase": 0.1}},
            "constraint_without_search",
        ),
        ({**KFAC, "retain_weight": 0.1}, "retain_set_missing"),
        ({**AIMED, "method": "kfac", "sweep": {"retain_weight": [0.1]}}, "retain_set_missing"),
        ({**KFAC, "constraint": {"max_nl_drop": 0.1}}, "retain_set_missing"),
        ({**KFAC, "recovery": {}}, "retain_set_missing"),
        (
            {**KFAC, **RETAINED, "recovery": {}, "evaluation": {"clean_text_set": "txs_retain"}},
            "clean_was_retained",
        ),
        (
            {**AIMED, **RETAINED, "method": "kfac", "layers": "auto", "recovery": {"steps": 834}},
            "recovery_too_long",
        ),
        ({**AIMED, "method": "kfac", "sweep": {"recovery_steps": [0]}}, "retain_set_missing"),
        ({**AIMED, "method": "kfac", "retain_text_set": AIMED["forget_text_set"]}, "retained_is_memorized"),
        ({**KFAC, **RETAINED, "evaluation": {"memorized_text_set": "txs_retain"}}, "retained_is_memorized"),
        ({**KFAC, **RETAINED, "evaluation": {"unseen_text_set": "txs_retain"}}, "retained_is_memorized"),
        ({**KFAC, **RETAINED, "evaluation": {"control_text_set": "txs_retain"}}, "control_was_retained"),
        ({**SVD, **RETAINED}, "parameter_of_another_method"),
        (
            {**AIMED, "method": "kfac", "sweep": {"keep_mass": [0.5] * 20, "layers": [[0]] * 13}},
            "sweep_too_large",
        ),
        (
            {**AIMED, "method": "kfac", "evaluation": {"unseen_text_set": AIMED["forget_text_set"]}},
            "unseen_was_seen",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_code(body: dict[str, Any], code: str) -> None:
    assert refusal(body) == (code, ())


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"keep_mass": math.nan}, "finite_number", ("keep_mass",)),
        ({"keep_mass": math.inf}, "finite_number", ("keep_mass",)),
        ({"keep_mass": 0}, "greater_than", ("keep_mass",)),
        ({"keep_mass": 1.5}, "less_than_equal", ("keep_mass",)),
        ({"keep_mass": "0.6"}, "float_type", ("keep_mass",)),
        ({"keep_mass": True}, "float_type", ("keep_mass",)),
        ({"projections": ["gates"]}, "literal_error", ("projections", 0)),
        ({"projections": []}, "too_short", ("projections",)),
        ({"layers": []}, "too_short", ("layers",)),
        ({"layers": [0, -1]}, "greater_than_equal", ("layers", 1)),
        ({"layers": [1.0]}, "int_type", ("layers", 0)),
        ({"layers": "all"}, "literal_error", ("layers",)),
        ({"layers": 3}, "list_type", ("layers",)),
        ({"method": "lora"}, "literal_error", ("method",)),
        ({"labels": "silver"}, "literal_error", ("labels",)),
        ({"calibration_tokens": 0}, "greater_than_equal", ("calibration_tokens",)),
        ({"block_tokens": 1}, "greater_than_equal", ("block_tokens",)),
        ({"seed": -1}, "greater_than_equal", ("seed",)),
        ({"seed": 2**31}, "less_than_equal", ("seed",)),
        ({"dtype": "float16"}, "literal_error", ("dtype",)),
        ({"name": "../etc"}, "string_pattern_mismatch", ("name",)),
        ({"name": ".hidden"}, "string_pattern_mismatch", ("name",)),
        ({"name": "forgetful\n"}, "string_pattern_mismatch", ("name",)),
        ({"name": "a" * 97}, "string_too_long", ("name",)),
        ({"unknown": 1}, "extra_forbidden", ("unknown",)),
        ({"sweep": {"keep_mass": [0.6, 0.0]}}, "greater_than", ("sweep", "keep_mass", 1)),
        ({"sweep": {"layers": [[0], []]}}, "too_short", ("sweep", "layers", 1)),
        ({"sweep": {"projections": [["up", "norm"]]}}, "literal_error", ("sweep", "projections", 0, 1)),
        ({"sweep": {"labels": ["gold"]}}, "extra_forbidden", ("sweep", "labels")),
        (
            {"constraint": {"max_perplexity_increase": -0.1}},
            "greater_than_equal",
            ("constraint", "max_perplexity_increase"),
        ),
        ({"evaluation": {"prefix_tokens": 0}}, "greater_than_equal", ("evaluation", "prefix_tokens")),
        ({"evaluation": {"stress": 1}}, "bool_type", ("evaluation", "stress")),
        ({"evaluation": {"stress": "most"}}, "literal_error", ("evaluation", "stress")),
        ({"evaluation": {"reference_model": 3}}, "string_type", ("evaluation", "reference_model")),
        (
            {"evaluation": {"limits": {"max_auc_distance": 0.51}}},
            "less_than_equal",
            ("evaluation", "limits", "max_auc_distance"),
        ),
        (
            {"evaluation": {"limits": {"max_strict": math.nan}}},
            "finite_number",
            ("evaluation", "limits", "max_strict"),
        ),
        (
            {"evaluation": {"limits": {"min_ndcg": 1.1}}},
            "less_than_equal",
            ("evaluation", "limits", "min_ndcg"),
        ),
    ],
)
def test_a_value_is_never_coerced_and_kept_in_its_range(
    fields: dict[str, Any], code: str, place: tuple[int | str, ...]
) -> None:
    assert refusal({**AIMED, "method": "kfac", **fields}) == (code, place)


def test_the_methods_of_a_baseline_are_checked_as_well() -> None:
    assert refusal({**SVD, "rank_ratio": {"up": 0.0}}) == ("greater_than", ("rank_ratio", "up"))
    for name, wrong in {"ratio": 1.0, "epochs": 0, "learning_rate": 0.0, "loss_weight": 1.1}.items():
        _, place = refusal({**SUBNET, "balanced_subnet": {name: wrong}})
        assert place == ("balanced_subnet", name)


def test_a_proof_measures_the_forget_set_and_the_calibration_set_by_default() -> None:
    assert EditCreate.model_validate(SVD).text_sets() == {}
    assert EditCreate.model_validate(KFAC).text_sets() == {
        TextSetRole.CALIBRATION: "txs_calibration",
        TextSetRole.CLEAN: "txs_calibration",
    }
    assert EditCreate.model_validate(SUBNET).text_sets() == {
        TextSetRole.CALIBRATION: "txs_calibration",
        TextSetRole.CLEAN: "txs_calibration",
        TextSetRole.FORGET: "txs_forget",
        TextSetRole.MEMORIZED: "txs_forget",
    }


def test_what_the_client_names_is_measured_instead() -> None:
    named = {role: f"txs_{role}" for role in TextSetRole}
    own = {"calibration", "forget", "retain"}
    evaluation = {f"{role}_text_set": named[role] for role in TextSetRole if role not in own}
    body = {**AIMED, **RETAINED, "method": "kfac", "evaluation": evaluation}
    request = EditCreate.model_validate(body)
    assert request.text_sets() == named


def test_the_workers_read_what_the_client_asked_for() -> None:
    """Through JSON, as Postgres keeps it."""
    fields = {
        "method": "kfac",
        "projections": ["up"],
        "keep_mass": 0.75,
        "labels": "gold",
        "calibration_tokens": 4096,
        "block_tokens": 64,
        "sweep": {"layers": [[0], [0, 1]], "keep_mass": [0.6, 1]},
        "constraint": {"max_perplexity_increase": 2},
        "evaluation": {"stress": True, "limits": {"max_strict": 0, "min_ndcg": 0.5}},
        "seed": 7,
        "dtype": "bfloat16",
    }
    request = EditCreate.model_validate({**AIMED, **fields, "metadata": {"ticket": 3}})
    spec = EditSpec.model_validate(json.loads(json.dumps(request.spec().model_dump())))
    assert spec == request.spec()
    assert type(spec) is EditSpec
    assert {name: getattr(request, name) for name in EditSpec.model_fields} == dict(spec)
    for name in ("projections", "keep_mass", "labels", "calibration_tokens", "block_tokens", "seed", "dtype"):
        assert getattr(spec, name) == fields[name]
    assert spec.sweep is not None
    assert (spec.sweep.layers, spec.sweep.keep_mass, spec.sweep.projections) == (
        [[0], [0, 1]],
        [0.6, 1.0],
        None,
    )
    assert spec.constraint.max_perplexity_increase == 2
    assert (spec.evaluation.stress, spec.evaluation.limits.max_strict) == (True, 0)


def test_a_retain_set_has_a_weight_and_no_other_edit_has_one() -> None:
    def weight(**fields: Any) -> float | None:
        return EditCreate.model_validate({**KFAC, **fields}).spec().retain_weight

    assert weight() is None
    assert weight(**RETAINED) == 0.1
    assert weight(**RETAINED, retain_weight=0) == 0


def test_a_mass_is_adapted_where_nothing_says_any() -> None:
    def adapts(**fields: Any) -> bool:
        return adapts_keep_mass(EditCreate.model_validate({**AIMED, "method": "kfac", **fields}))

    assert adapts()
    assert adapts(sweep={"layers": [[0], [1]]})
    assert not adapts(keep_mass=0.6)
    assert not adapts(sweep=SWEEP)
    assert not adapts(keep_mass=0.6, sweep={"layers": [[0], [1]]})
    assert not adapts(layers="auto")


def test_combinations_are_over_everything_that_is_swept() -> None:
    fields = {"layers": [[0], [1]], "keep_mass": [0.6, 0.7, 0.8], "retain_weight": [0, 0.1, 0.2, 0.3]}
    assert Sweep.model_validate({**fields, "projections": [["up"]]}).combinations == 24
    assert Sweep.model_validate({**fields, "recovery_steps": [0, 30]}).combinations == 48


def test_only_several_settings_make_a_search() -> None:
    def searches(**fields: Any) -> bool:
        return EditCreate.model_validate({**AIMED, "method": "kfac", **fields}).spec().searches

    assert not searches()
    assert not searches(layers=[0])
    assert searches(layers="auto")
    assert searches(sweep=SWEEP)
    assert searches(sweep={})


def test_the_defaults_are_those_of_the_paper() -> None:
    """But for the mass, which is adapted from the paper's on."""
    spec = EditCreate.model_validate(KFAC).spec()
    assert (spec.layers, spec.projections, spec.keep_mass, spec.labels) == (None, None, None, "sampled")
    assert (spec.calibration_tokens, spec.block_tokens) == (20_000_000, 512)
    assert (spec.evaluation.prefix_tokens, spec.evaluation.suffix_tokens) == (64, 48)
    subnet = spec.balanced_subnet
    assert (subnet.ratio, subnet.epochs, subnet.learning_rate, subnet.loss_weight) == (0.0015, 5, 0.3, 0.7)
